// What the parts of a protected server need to know of each other (docs/failover.md), and `vmsrs run --protect`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "runtime/protect/protected_guest.hpp"

namespace vmsrs::cli {

struct ProtectOptions {
  std::string mode;  // --protect: strict or relaxed, everything on this host; empty: not
  std::string gateway, key_file, coordinator, undo_folder;
  uint64_t epoch_ms = 25, shortest_ms = 2, lease_ms = 1000, window_ms = 10'000;
  // With a model: epochs between epoch_ms and longest_ms, by the forecast.
  std::string model, epoch_policy = "threshold";
  uint64_t longest_ms = 1000;
  std::string epoch_log;
  int events_fd = -1;  // where what is noticed goes; negative: nowhere

  // This process runs the guest and the other parts are there already.
  [[nodiscard]] bool is_part() const { return mode.empty() && !gateway.empty(); }
};

// Where the other parts are: --gateway, --key-file, --coordinator.
void add_part_options(CLI::App& app, ProtectOptions& options, bool required);
// --epoch, --shortest-epoch, --lease: of whoever runs, or may run, the guest.
void add_epoch_options(CLI::App& app, ProtectOptions& options);
vmm::Result<runtime::protect::ProtectConfig> protect_config(ProtectOptions const& options);

// Runs gateway, backup and, in a process of its own by `run`, the guest, until the program ends; its exit status.
// `for_backup`: further options of `vmsrs backup`. To be called early in main(): it forks.
int direct(ProtectOptions const& options, std::vector<std::string> const& for_backup, std::string const& log,
           std::function<int(ProtectOptions const&)> const& run);

}  // namespace vmsrs::cli
