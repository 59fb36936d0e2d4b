// What recovery knows of one guest thread that uses libsrs. Hangs on vmm::Thread::user_data; touched by that thread
// alone, but for `forced`, which whoever forces a fault sets.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/held_output.hpp"
#include "runtime/restricted_run.hpp"
#include "runtime/scope_effects.hpp"
#include "runtime/store/types.hpp"
#include "srs/abi.h"

namespace vmsrs::runtime {

// The signal mask before the first change of it in a scope.
struct MaskBefore {
  uint64_t number = 0;  // of the scope's first owner
  uint64_t mask = 0;
};

struct ThreadState {
  uint64_t slot = 0;                // index
  std::vector<srs_action> actions;  // of the last abort, not yet fetched by the landing code
  srs_fault_info last_fault{};
  ScopeEffects effects;
  std::vector<MaskBefore> masks;
  HeldOutput held;
  bool output_sent = false;    // since the outermost scope began
  uint64_t output_number = 0;  // that of the first owner of the scope in which it left
  uint64_t answer_number = 0;  // likewise of the last scope that sent anything to its client, committed first or not
  bool range_open = false;     // a system call is writing monitored memory
  uint64_t lock_cycles = 0;
  // Why the thread is to fault at its next gate, and the scope that is meant.
  std::atomic<uint32_t> forced_kind{SRS_FAULT_NONE};
  std::atomic<uint64_t> forced_owner{0};
  // From a fault to the landing code's first call: the scope is undone and still looks live, and no deadline may
  // strike.
  bool landing = false;
  std::unique_ptr<RestrictedRun> run;  // from the abort to the landing, with policy `run`
  std::atomic<uint64_t> run_until{0};  // CLOCK_MONOTONIC ns at which that must end; 0: it is not in the view
  uint64_t aborted_owner = 0;          // the scope of the last abort
  // The fault whose landing is not over (its report waits for that), and the thread's exits before it.
  uint64_t landing_fault = 0;
  uint64_t exits_before = 0;
  uint64_t landing_index = 0;  // of the scope that lands
  unsigned landings_again = 0;
};

}  // namespace vmsrs::runtime
