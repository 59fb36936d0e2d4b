#include "vmm/time_page.hpp"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <string>

#include "vmm/clock.hpp"

namespace vmm {
namespace {

using namespace std::chrono_literals;

constexpr auto kPeriod = 200ms;
// The first periods are short: the rate is known only as well as the span it was measured over.
constexpr std::chrono::milliseconds kFirstPeriods[] = {5ms, 20ms, 80ms};
constexpr auto kFirstSpan = 2ms;
constexpr int kSampleTries = 12, kOffsetRounds = 40, kOffsetRoundsLater = 4;
constexpr int64_t kRateWindowNs = 2'000'000'000;
// A new line starts this far ahead: readers must have its figures before it holds.
constexpr double kLeadNs = 1'000'000;
constexpr int kPublishTries = 16;
constexpr int64_t kJumpNs = 1'000'000;  // the host is further ahead than this: no slewing
constexpr double kSlowest = 0.5;        // when ahead of the host: never slower than half speed
constexpr double kFraction = 4294967296.0;

int64_t host_now(int clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return to_ns(t);
}

// The kernel's own judgement whether the counter is steady and the same on every CPU.
bool counter_is_clock() {
  std::ifstream file("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  std::string name;
  return file >> name && name == "tsc";
}

template <class T>
void set(T& field, T value) {
  __atomic_store_n(&field, value, __ATOMIC_RELEASE);
}

void set(vmsrs_time_line& to, vmsrs_time_line const& from) {
  set(to.tsc, from.tsc);
  set(to.ns, from.ns);
  set(to.mult, from.mult);
}

}  // namespace

Result<std::shared_ptr<TimePage>> TimePage::create(std::byte* page) {
  std::shared_ptr<TimePage> result(new TimePage(page));
  // A page that has been in use: no reader that it interrupted may find its number again.
  if (page != nullptr && result->guest_->seq != 0) {
    result->own_.seq = (result->guest_->seq | 1) + 1;
    result->guest_->valid = 0;
  }
  if (!counter_is_clock()) return result;
  result->calibrate();
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  result->updater_ = std::thread([p = result.get()] { p->run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return result;
}

TimePage::~TimePage() {
  {
    std::lock_guard lock(stop_mutex_);
    stop_ = true;
  }
  stop_changed_.notify_all();
  if (updater_.joinable()) updater_.join();
}

bool TimePage::read(int clock, int64_t& ns) const noexcept {
  int result = 0;
  while ((result = vmsrs_time_read(&own_, clock, &ns)) < 0) sched_yield();
  return result == 1;
}

// The tightest of some tries: the clock's value lies between two looks at the counter.
TimePage::Sample TimePage::sample() {
  Sample best;
  uint64_t best_width = UINT64_MAX;
  for (int i = 0; i < kSampleTries; i++) {
    uint64_t const before = vmsrs_read_tsc();
    int64_t const ns = host_now(CLOCK_MONOTONIC);
    uint64_t const width = vmsrs_read_tsc() - before;
    if (width >= best_width) continue;
    best_width = width;
    best = {before + width / 2, ns};
  }
  return best;
}

void TimePage::Offset::narrow(int64_t new_low, int64_t new_high) {
  if (known && (new_low > high || new_high < low)) known = false;  // the clock was set
  low = known ? std::max(low, new_low) : new_low;
  high = known ? std::min(high, new_high) : new_high;
  // What was published stays while it can be right, so that a narrower guess is no step.
  if (!known || published < low || published > high) published = low + (high - low) / 2;
  known = true;
}

void TimePage::measure(int clock, Offset& offset, int rounds) {
  int64_t low = INT64_MIN, high = INT64_MAX;
  for (int i = 0; i < rounds; i++) {
    int64_t const before = host_now(CLOCK_MONOTONIC);
    int64_t const value = host_now(clock);
    int64_t const after = host_now(CLOCK_MONOTONIC);
    if (value - after > high || value - before < low) {  // set in the middle of this
      low = INT64_MIN;
      high = INT64_MAX;
    }
    low = std::max(low, value - after);
    high = std::min(high, value - before);
  }
  offset.narrow(low, high);
}

// Both copies are odd at once, `change` writes each, both are even again.
template <class Change>
void TimePage::publish(Change const& change) {
  vmsrs_time_data* const copies[] = {&own_, guest_};
  uint32_t const odd = own_.seq + 1;
  for (vmsrs_time_data* copy : copies)
    if (copy != nullptr) __atomic_exchange_n(&copy->seq, odd, __ATOMIC_SEQ_CST);
  // No reader with the old figures looks at the counter after this moment.
  uint64_t const now = vmsrs_read_tsc();
  for (vmsrs_time_data* copy : copies)
    if (copy != nullptr) change(*copy, now);
  for (vmsrs_time_data* copy : copies)
    if (copy != nullptr) __atomic_store_n(&copy->seq, odd + 1, __ATOMIC_RELEASE);
}

void TimePage::calibrate() {
  std::lock_guard lock(update_mutex_);
  Sample const first = sample();
  auto const until = first.ns + std::chrono::nanoseconds(kFirstSpan).count();
  measure(CLOCK_REALTIME, realtime_, kOffsetRounds);
  measure(CLOCK_BOOTTIME, boottime_, kOffsetRounds);
  while (host_now(CLOCK_MONOTONIC) < until) {
    timespec const rest = to_timespec(until);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &rest, nullptr);
  }
  Sample const second = sample();
  history_ = {first, second};
  double const rate = static_cast<double>(second.ns - first.ns) / static_cast<double>(second.tsc - first.tsc);
  vmsrs_time_line const line{second.tsc, second.ns, static_cast<uint64_t>(std::llround(rate * kFraction))};
  publish([&](vmsrs_time_data& to, uint64_t) {
    set(to.switch_tsc, second.tsc);
    set(to.before, line);
    set(to.after, line);
    set(to.realtime_offset, realtime_.published);
    set(to.boottime_offset, boottime_.published);
    set(to.valid, uint32_t{1});
  });
}

bool TimePage::publish_line(Sample const& now, double ns_per_tick) {
  vmsrs_time_line const old = own_.after;
  for (int i = 0; i < kPublishTries; i++) {
    uint64_t const tsc = vmsrs_read_tsc();
    if (tsc < own_.switch_tsc) return false;  // the last line has not begun
    uint64_t const start = tsc + static_cast<uint64_t>(kLeadNs * (i + 1) / ns_per_tick);
    int64_t value = vmsrs_on_line(&old, start);
    double const host =
        static_cast<double>(now.ns) + static_cast<double>(static_cast<int64_t>(start - now.tsc)) * ns_per_tick;
    double error = host - static_cast<double>(value);
    if (error > kJumpNs) {
      value += static_cast<int64_t>(error);
      error = 0;
    }
    double const span = static_cast<double>(std::chrono::nanoseconds(kPeriod).count());
    double const factor = std::max(1 + error / span, kSlowest);
    vmsrs_time_line const next{start, value, static_cast<uint64_t>(std::llround(ns_per_tick * factor * kFraction))};
    bool late = false, first = true;
    publish([&](vmsrs_time_data& to, uint64_t moment) {
      if (first) late = moment >= start;
      first = false;
      if (late) return;  // this thread lost its CPU: the start has passed
      set(to.switch_tsc, start);
      set(to.before, old);
      set(to.after, next);
      set(to.realtime_offset, realtime_.published);
      set(to.boottime_offset, boottime_.published);
    });
    if (!late) return true;
  }
  return false;
}

void TimePage::update() {
  std::lock_guard lock(update_mutex_);
  if (!valid()) return;
  Sample const now = sample();
  measure(CLOCK_REALTIME, realtime_, kOffsetRoundsLater);
  measure(CLOCK_BOOTTIME, boottime_, kOffsetRoundsLater);
  while (history_.size() > 1 && now.ns - history_[1].ns > kRateWindowNs) history_.pop_front();
  Sample const& past = history_.front();
  if (now.tsc <= past.tsc || now.ns <= past.ns) return;
  double const rate = static_cast<double>(now.ns - past.ns) / static_cast<double>(now.tsc - past.tsc);
  history_.push_back(now);
  publish_line(now, rate);
}

void TimePage::run() {
  pthread_setname_np(pthread_self(), "time-page");
  auto const wait = [&](std::chrono::milliseconds span) {
    std::unique_lock lock(stop_mutex_);
    return stop_changed_.wait_for(lock, span, [&] { return stop_; });
  };
  for (auto const span : kFirstPeriods) {
    if (wait(span)) return;
    update();
  }
  while (!wait(kPeriod)) update();
}

void TimePage::set_cpu_from_aux(bool on) {
  std::lock_guard lock(update_mutex_);
  publish([&](vmsrs_time_data& to, uint64_t) { set(to.cpu_from_aux, uint32_t{on}); });
}

}  // namespace vmm
