// Recovery runs before everything else: while a fault is being undone healthy users may wait for the undone words, and
// on a busy machine a thread of ordinary priority waits milliseconds for its turn.
//
// Needs CAP_SYS_NICE (root has it); without it nothing changes but the latency.
#pragma once

namespace vmsrs::runtime {

// The calling thread, for good: the store process.
void make_urgent() noexcept;

// The calling thread, for the life of this object.
class Urgent {
 public:
  Urgent() noexcept;
  ~Urgent();
  Urgent(Urgent const&) = delete;
  Urgent& operator=(Urgent const&) = delete;

 private:
  int before_ = -1;  // policy; -1: nothing was changed
};

}  // namespace vmsrs::runtime
