// The pthread locks of a thread that faulted, as libsrs_rescue has noted them in the guest (srs/rescue.h).
#pragma once

#include <cstdint>
#include <string>

#include "runtime/rescue/landing_pad.hpp"

namespace vmsrs::runtime {

struct HeldLocks {
  std::string doubt;     // why it is not known what the thread holds; empty: it is
  uint64_t release = 0;  // bit i: held[i] was taken since the read
  unsigned count = 0;    // bits in it
};

// The thread stands at its fault. An intent that the lock's own word decides is settled in the guest's table.
[[nodiscard]] HeldLocks held_locks(vmm::Thread& thread, LandingPad const& pad);

}  // namespace vmsrs::runtime
