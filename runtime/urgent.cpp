#include "runtime/urgent.hpp"

#include <sched.h>

namespace vmsrs::runtime {
namespace {

bool set(int policy, int priority) noexcept {
  sched_param param{};
  param.sched_priority = priority;
  return sched_setscheduler(0, policy | SCHED_RESET_ON_FORK, &param) == 0;
}

}  // namespace

void make_urgent() noexcept {
  set(SCHED_FIFO, 1);
}

Urgent::Urgent() noexcept {
  int const policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
  if ((policy == SCHED_OTHER || policy == SCHED_BATCH) && set(SCHED_FIFO, 1)) before_ = policy;
}

Urgent::~Urgent() {
  if (before_ < 0) return;
  sched_param const param{};
  sched_setscheduler(0, before_, &param);
}

}  // namespace vmsrs::runtime
