// How recovery works in one run; every field is a command-line option of `vmsrs run`.
#pragma once

#include <cstdint>
#include <string>

#include "srs/abi.h"

namespace vmsrs::runtime {

enum class RestoreMode : uint8_t { kAuto, kEager, kDemand };
char const* name_of(RestoreMode mode);

struct Options {
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
  // For experiments that must fail: what each leg of recovery is worth (tests/faults).
  bool undo = true;      // off: a faulted scope's stores stay
  bool suppress = true;  // off: memory is put right, but the faulted thread goes on into its fault
};

}  // namespace vmsrs::runtime
