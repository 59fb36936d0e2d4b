// One call from the command line to a finished guest: what `vmsrs run` needs, with no word of recovery.
#pragma once

#include <functional>
#include <memory>

#include "vmm/guest_process.hpp"

namespace vmm {

struct RunConfig {
  ProgramSpec program;
  uint64_t memory = 8ULL << 30;  // the high window; a power of two, 2 to 8 GiB on KVM-PVM
  bool verbose = false;
  int pollers = Pollers::kAuto;  // threads that serve exitless calls
  // Sees the process before its program is loaded. May start host threads that look at it: what it returns is let go
  // before the process is, and has to end them.
  std::function<std::shared_ptr<void>(GuestProcess&)> watch;
};

// Makes the guest's memory. Separate from start so that the layer above can fork its store process, which maps the same
// memory, before the first thread exists.
Result<std::unique_ptr<AddressSpace>> make_memory(RunConfig const& config);

// Runs the program to its end. `hooks` may be null. `on_start` sees the process when its first thread has been started,
// on the calling thread, and must not wait for the guest; `on_end` after its last thread ended.
Result<ExitStatus> run_guest(RunConfig const& config, std::unique_ptr<AddressSpace> memory, Hooks* hooks,
                             std::function<void(GuestProcess&)> const& on_end = {},
                             std::function<void(GuestProcess&)> const& on_start = {});

// The same with a guest that `begin` makes (from a checkpoint), instead of a program; config.program is not looked at.
Result<ExitStatus> run_made_guest(RunConfig const& config, std::unique_ptr<AddressSpace> memory, Hooks* hooks,
                                  std::function<Result<void>(GuestProcess&)> const& begin,
                                  std::function<void(GuestProcess&)> const& on_end = {});

}  // namespace vmm
