#include "vmm/poller_priority.hpp"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <ctime>

namespace vmm {
namespace {

constexpr int kNice = -20;
constexpr int64_t kTakenNs = 1'000'000;  // away for so long: somebody else had the processor
constexpr int64_t kFirstSpanNs = 25'000'000, kLastSpanNs = 400'000'000, kForgetNs = 500'000'000;
constexpr long kNapNs = 10'000;

}  // namespace

void PollerPriority::begin() noexcept {
  prctl(PR_SET_TIMERSLACK, 1);
  allowed_ = getpriority(PRIO_PROCESS, 0) <= 0;
  if (allowed_) setpriority(PRIO_PROCESS, 0, kNice);
}

bool PollerPriority::set_urgent(bool on) noexcept {
  sched_param param{};
  param.sched_priority = on ? 1 : 0;
  if (sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &param) != 0) return false;
  urgent_ = on;
  return true;
}

void PollerPriority::round(int64_t now_ns, bool own_processor) noexcept {
  bool const taken = now_ns - last_ns_ > kTakenNs;
  last_ns_ = now_ns;
  if (urgent_) {
    if (now_ns > until_ns_ || !own_processor) set_urgent(false);
    return;
  }
  if (!taken || !own_processor || !allowed_) return;
  span_ns_ = now_ns - until_ns_ > kForgetNs ? kFirstSpanNs : std::min(span_ns_ * 2, kLastSpanNs);
  until_ns_ = now_ns + span_ns_;
  allowed_ = set_urgent(true);
}

void PollerPriority::give_way() const noexcept {
  if (!urgent_) {
    sched_yield();
    return;
  }
  timespec const nap{0, kNapNs};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, nullptr);
}

void PollerPriority::rest() noexcept {
  if (urgent_) set_urgent(false);
}

}  // namespace vmm
