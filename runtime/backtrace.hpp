// The call chain of a stopped guest thread, taken from outside: call frame information (.eh_frame_hdr) read from guest
// memory by libunwind's remote interface. Nothing in the guest runs, nothing there is trusted: damaged stacks and
// damaged tables end the chain, in bounded time.
//
// Where a function has no call frame information, or a stack makes no sense, the chain goes on by the frame pointer,
// else by a scan of the stack, to the next word that points just behind a call instruction in executable memory. Such a
// frame may be a left-over of an earlier call: it is better than no frame, and marked (Frame::guessed).
#pragma once

#include <cstddef>
#include <vector>

#include "runtime/fault_report.hpp"
#include "runtime/guest_view.hpp"
#include "vmm/registers.hpp"

namespace vmsrs::runtime {

inline constexpr size_t kMaxFrames = 32;

// Where to go on: the registers of the last frame, for a further piece of the chain.
struct BacktraceEnd {
  vmm::Registers registers;
  bool is_return = false;
};

// Innermost first; the first is registers.rip, whatever it is (a call to garbage: the next is the caller). Fills ip,
// module, offset, build_id, is_return and guessed; names come from Symbols. Thread-safe for different views.
[[nodiscard]] std::vector<Frame> backtrace(GuestView const& view, vmm::Registers const& registers,
                                           size_t max_frames = kMaxFrames, BacktraceEnd* end = nullptr,
                                           bool is_return = false);

}  // namespace vmsrs::runtime
