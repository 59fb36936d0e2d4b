// What a thread was doing when it faulted: the functions it had entered since the read that it would go back to.
#pragma once

#include <vector>

#include "runtime/fault_report.hpp"
#include "runtime/rescue/landing_pad.hpp"
#include "runtime/symbols.hpp"

namespace vmsrs::runtime {

struct FaultChain {
  std::vector<Frame> frames;  // named, innermost first, as far as they are not the read's own callers
  bool complete = false;  // the read's callers were reached: nothing is missing but what an endless recursion repeats
};

// The thread stands at its fault; its pad is open. The code that the read's callers and the fault have in common is
// left out, but for the function in which they part.
[[nodiscard]] FaultChain fault_chain(vmm::Thread& thread, LandingPad const& pad, Symbols& symbols);

}  // namespace vmsrs::runtime
