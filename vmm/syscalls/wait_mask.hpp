// The signal mask argument of ppoll, pselect6 and epoll_pwait: in force for the time of the call.
#pragma once

#include "vmm/process.hpp"
#include "vmm/syscalls/host.hpp"

namespace vmm {

class WaitMask {
 public:
  // 0, -EINVAL (size is not that of a sigset_t) or -EFAULT. A null address: no mask.
  int64_t load(Thread& thread, GuestAddr at, uint64_t size) {
    if (!at) return 0;
    if (size != 8) return -EINVAL;
    set_ = thread.memory().read(at, mask_);
    return set_ ? 0 : -EFAULT;
  }
  void apply(Thread& thread) {
    if (set_) thread.process().signals().set_temporary_mask(thread, mask_);
  }
  int64_t end(Thread& thread, int64_t result) {
    if (set_) thread.process().signals().end_temporary_mask(thread, result);
    return result;
  }

 private:
  bool set_ = false;
  uint64_t mask_ = 0;
};

}  // namespace vmm
