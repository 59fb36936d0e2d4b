// How recovery works in one run; every field is a command-line option of `vmsrs run`.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "srs/abi.h"

namespace vmsrs::runtime {

struct FaultReport;

enum class RestoreMode : uint8_t { kAuto, kEager, kDemand };
char const* name_of(RestoreMode mode);

// Rescue points for servers that know nothing of libsrs (docs/rescue.md).
struct RescueOptions {
  bool on = false;
  uint64_t loop_faults = 200, loop_ms = 10'000;  // so many rescues at one place in such a time: no further
  uint64_t probe_ms = 3'000;  // a server that does not answer in time after a rescue ends; 0: not asked
  // For experiments: faults that the monitor makes up.
  uint64_t strikes = 0;  // at most
  int strike_call = -1;  // at the end of this system call, each time it was made so often:
  uint64_t strike_each = 100;
  uint64_t strike_every_us = 0;  // at random instructions, so far apart on average
  uint64_t strike_seed = 1;
};

struct Options {
  RescueOptions rescue;
  bool recovery = true;            // off: no hypercall is answered, every fault is the guest's own
  uint32_t store = SRS_STORE_LOG;  // SRS_STORE_*
  RestoreMode restore = RestoreMode::kAuto;
  enum srs_policy policy = SRS_LAND;        // of scopes that name none
  enum srs_isolation isolation = SRS_HOLD;  // likewise
  bool scope_thread = false;
  uint64_t sweep_after_ms = 100;  // demand: what no healthy thread asked for is put right after this long
  // Policy `run`: how long the faulted thread may go on, and over how many faults.
  uint64_t run_budget_ms = 100, run_faults = 1000;
  std::string report;  // file for JSON lines; "-": standard output; empty: none
  // Each fault's report too, when it is written; on any thread. Empty: nobody.
  std::function<void(FaultReport const&)> on_report;
  // For experiments that must fail: what each leg of recovery is worth (tests/faults).
  bool undo = true;      // off: a faulted scope's stores stay
  bool suppress = true;  // off: memory is put right, but the faulted thread goes on into its fault
};

}  // namespace vmsrs::runtime
