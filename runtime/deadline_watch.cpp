#include "runtime/deadline_watch.hpp"

#include <algorithm>
#include <chrono>
#include <ctime>

namespace vmsrs::runtime {
namespace {
constexpr auto kPeriod = std::chrono::milliseconds(5);
}

uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void DeadlineWatch::start(SlotArea const& slots, std::function<void(uint64_t, uint64_t)> missed,
                          std::function<void(uint64_t)> tick) {
  missed_ = std::move(missed);
  tick_ = std::move(tick);
  thread_ = std::thread([this, &slots] { run(slots); });
}

void DeadlineWatch::stop() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void DeadlineWatch::run(SlotArea const& slots) {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kPeriod, [this] { return stopping_; })) {
    lock.unlock();
    uint64_t const now = monotonic_ns();
    uint64_t const top = slots.top();
    for (uint64_t i = 1; i < top; ++i) {
      srs_slot const* slot = slots.host(i);
      uint64_t const depth = __atomic_load_n(&slot->depth, __ATOMIC_ACQUIRE);
      // The outermost scope that is past its deadline: what is nested in it goes with it.
      for (uint64_t d = 0; d < std::min<uint64_t>(depth, SRS_MAX_DEPTH); ++d) {
        uint64_t const deadline = __atomic_load_n(&slot->scopes[d].deadline_ns, __ATOMIC_RELAXED);
        if (deadline == 0 || deadline > now) continue;
        missed_(i, __atomic_load_n(&slot->landings[d].owner, __ATOMIC_RELAXED));
        break;
      }
    }
    tick_(now);
    lock.lock();
  }
}

}  // namespace vmsrs::runtime
