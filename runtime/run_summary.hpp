// What is said of a whole run, as the last line of the report.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "runtime/fault_report.hpp"

namespace vmsrs::runtime {

// Sums over faults. Plain numbers; whoever adds holds the lock.
struct FaultTotals {
  uint64_t faults = 0;
  std::array<uint64_t, SRS_FAULT_KINDS> by_kind{};
  uint64_t uncontained = 0;  // outcome starts with "not contained"
  uint64_t passed_on = 0;    // to the guest's own handler, or its death: the fault was in no scope
  uint64_t words_polluted = 0, words_spliced = 0, pages = 0;
  uint64_t by_eager = 0, by_trap = 0, by_overwrite = 0, by_sweep = 0;
  uint64_t exposed = 0, dependents = 0, damaged_records = 0, unordered_records = 0;
  uint64_t blocks_freed = 0, locks_released = 0, fds_closed = 0, fds_reopened = 0, lock_cycles = 0;
  uint64_t files_undone = 0, events_returned = 0, effects_left = 0, not_whole = 0, wild_undone = 0, unexplained = 0;
  uint64_t findings = 0;
  uint64_t output_before_abort = 0, tainted = 0;  // faults of which this was so

  void add(FaultReport const& fault);
};

struct RunSummary {
  std::string program;
  int exit_status = 0;
  int exit_signal = 0;  // 0: the program ended by itself
  double seconds = 0;
  std::string recovery, store, restore;  // as chosen: "on", "log", "auto"…
  FaultTotals totals;  // Reporter::totals(), with what came back after its report put right by the caller
  uint64_t scopes = 0, commits = 0, aborts = 0;
  uint64_t kvm_exits = 0, hypercalls = 0, syscalls = 0, missing_traps = 0, kicks = 0;
  uint64_t threads_started = 0, peak_threads = 0;
};

}  // namespace vmsrs::runtime
