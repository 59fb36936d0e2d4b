// A guest made of an Image, running.
//
// It goes on where the last epoch left it: same memory, threads, ids, descriptors, signals, timers; calls that were
// under way are made again with what is left of their time. Its CLOCK_MONOTONIC never goes back: where the host's is
// behind the image's (another machine, a reboot), the guest runs in a time name space with the difference; where that
// cannot be had the restore is refused.
#pragma once

#include <functional>

#include "runtime/checkpoint/connections.hpp"
#include "runtime/checkpoint/image.hpp"
#include "runtime/options.hpp"
#include "vmm/guest_process.hpp"

namespace vmsrs::runtime {
class Recovery;
}

namespace vmsrs::checkpoint {

struct RestoreConfig {
  ConnectionOwner* owner = nullptr;  // null: connections to the outside are gone
  int pollers = vmm::Pollers::kAuto;
  bool verbose = false;
  runtime::Options recovery;  // reports and policies; whether recovery is on is the image's to say
  // The guest is complete and has not run yet; threads may be started from here on (a Checkpointer's, a control
  // socket's). `recovery` is null where the guest runs without.
  std::function<void(vmm::GuestProcess&, runtime::Recovery*)> on_ready;
  std::function<void(vmm::GuestProcess&)> on_end;
};

// Runs the guest to its end; blocks. To be called early in main(): before the process has threads. The image's memory
// is given back as soon as the guest has it.
vmm::Result<vmm::ExitStatus> run_restored(Image image, RestoreConfig const& config);

}  // namespace vmsrs::checkpoint
