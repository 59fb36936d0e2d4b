#include "vmm/syscalls/wait_time.hpp"

#include <algorithm>

#include "vmm/syscalls/host.hpp"

namespace vmm {

namespace {

constexpr int64_t kSecond = 1'000'000'000;

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

}  // namespace

int64_t checked_ns(timespec const& time) {
  if (time.tv_sec < 0 || time.tv_nsec < 0 || time.tv_nsec >= kSecond) return -1;
  return std::min<int64_t>(time.tv_sec, INT64_C(1) << 32) * kSecond + time.tv_nsec;
}

WaitTime::WaitTime(Thread& thread, int64_t ns) {
  if (ns < 0) return;
  int64_t& kept = thread.restart_deadline();
  if (kept == 0) kept = now_ns() + ns;
  deadline_ = kept;
}

timespec WaitTime::left() const {
  int64_t const ns = endless() ? 0 : std::max<int64_t>(0, deadline_ - now_ns());
  return {ns / kSecond, ns % kSecond};
}

timespec* WaitTime::pointer() {
  if (endless()) return nullptr;
  value_ = left();
  return &value_;
}

int64_t WaitTime::restart(int64_t result) const {
  return restart_as(result, endless() ? kRestartNoHand : kRestartBlock);
}

}  // namespace vmm
