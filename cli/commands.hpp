// The subcommands of `vmsrs`: each adds itself to the parser and returns its exit status when called.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/recovery.hpp"
#include "vmm/error.hpp"
#include "vmm/hooks.hpp"

namespace vmm {
class GuestProcess;
}

namespace vmsrs::cli {

// Exit statuses of vmsrs itself; a guest's own status passes through otherwise.
inline constexpr int kUsageError = 2;
inline constexpr int kMonitorError = 125;   // no /dev/kvm, no memory, a broken VM
inline constexpr int kNotExecutable = 126;  // the program is there but cannot be run
inline constexpr int kNotFound = 127;

using Command = std::function<int()>;

// Hooks that stand in front of recovery's (null: it is off), and live as long as the guest; null: none.
using HooksInFront = std::function<vmm::Result<std::unique_ptr<vmm::Hooks>>(vmm::AddressSpace&, runtime::Recovery*)>;

// `after_dashes`: what followed "--" on the command line.
Command add_run(CLI::App& app, std::vector<std::string> const& after_dashes, HooksInFront in_front = {});
// All of `run`, and faults on demand.
Command add_inject(CLI::App& app, std::vector<std::string> const& after_dashes);
Command add_predict(CLI::App& app);
Command add_syscalls(CLI::App& app);
Command add_detectd(CLI::App& app);
Command add_status(CLI::App& app);
Command add_stop(CLI::App& app);
Command add_register(CLI::App& app);
Command add_deregister(CLI::App& app);
Command add_checkpoint(CLI::App& app);
Command add_restore(CLI::App& app);
Command add_gateway(CLI::App& app);
Command add_backup(CLI::App& app);

// A running guest's socket for `vmsrs checkpoint` (runtime/checkpoint/control.hpp); null where there is none.
struct CheckpointDoor;
struct CloseDoor {
  void operator()(CheckpointDoor* door) const;
};
using Door = std::unique_ptr<CheckpointDoor, CloseDoor>;
// `control`: empty: the default name; "none": none.
Door open_door(vmm::GuestProcess& process, runtime::Recovery* recovery, std::string const& control);

vmm::Result<int> parse_pollers(std::string const& text);

}  // namespace vmsrs::cli
