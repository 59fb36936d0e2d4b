// The policy `run` (paper 004, sections 2.4 and 4.4): after the abort the faulted thread goes on to its scope's end, in
// a copy-on-write view (vmm/view.hpp) of memory, and lands there. Nothing that it does is seen by anybody.
//
//   fault → abort → srs_run_pad_ (main memory: what the scope held is given back) → SRS_RUN_ENTER: the view
//         → SRS_RUN_GO: behind the faulted instruction … → SRS_RUN_END, or an end before it → main memory, landing pad
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "srs/abi.h"
#include "vmm/hooks.hpp"
#include "vmm/registers.hpp"

namespace vmsrs::runtime {

// From the abort to the landing. Belongs to the thread, which alone touches it.
struct RestrictedRun {
  enum class Stage : uint8_t { kPreparing, kEntered, kRunning } stage = Stage::kPreparing;
  srs_landing landing{};
  unsigned index = 0;
  // The thread as its fault left it.
  vmm::Registers regs;
  std::array<std::byte, 4096> xsave{};
  vmm::Fault fault;
  bool by_call = false;  // the program reported the fault: it goes on behind its call
  uint64_t faulted_ns = 0, began_ns = 0;
  uint64_t faults = 0, calls = 0;  // gone over, the first included; not answered truthfully
};

}  // namespace vmsrs::runtime
