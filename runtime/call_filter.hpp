// The system calls of a thread that runs restricted (policy `run`): none has an effect that anybody else can see. What
// each call is answered is a table of data; a call that is not in it is refused with EPERM. docs/restricted-run.md says
// why which.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "vmm/thread.hpp"
#include "vmm/view.hpp"

namespace vmsrs::runtime {

enum class CallAnswer : uint8_t {
  kTrue,     // the monitor's own handler: for calls without pointers and without effect only
  kValue,    // CallRule::value: 0 as if it had been done, or -errno
  kCount,    // the size in argument CallRule::value, as if all of it had left
  kVectors,  // likewise the sum of an iovec array: address and count in arguments 1 and 2
  kMessage,  // likewise of a msghdr: address in argument 1
  kClock,    // the time, into argument 1; its clock is argument 0
  kTimeval,  // the time, into argument 0
  kSeconds,  // the time, as the result, and into argument 0
  kRandom,   // random bytes: address and size in arguments 0 and 1
  kBreak,    // the end of the heap as it is
  kMask,     // the thread's signal mask as it is, into argument 2
  kFutex,    // a wait is over at once, and what was waited for is there; nobody is woken
  kEndsRun   // the thread cannot go on behind it
};

struct CallRule {
  uint16_t nr;
  CallAnswer answer;
  int64_t value = 0;
};

std::span<CallRule const> call_rules();  // in order of number

struct FilteredCall {
  bool ends_run = false;
  bool truthful = false;                         // else counted as filtered
  std::optional<int64_t> result = std::nullopt;  // nothing: by the monitor's handler
};

FilteredCall filter_call(vmm::Thread& thread, vmm::View& view, vmm::SyscallArgs const& args);

}  // namespace vmsrs::runtime
