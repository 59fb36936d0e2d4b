// The monitor's side of the time page (vmm/vdso/time_data.h): calibrates the counter against the
// host's CLOCK_MONOTONIC and keeps the page right, five times a second.
//
// The host's clock is followed by a small change of the rate, never by a step back: the error is
// spread over the next period. A host clock that is far ahead (the monitor was stopped, the machine
// moved) is caught up with at once. CLOCK_REALTIME and CLOCK_BOOTTIME are MONOTONIC plus an offset
// that changes only when the host's does.
//
// Two copies hold the same figures: the monitor's own, which its handlers read, and the guest's
// page, which nobody but the guest believes.
//
// read() is thread-safe and takes no lock. One updater.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "vmm/error.hpp"
#include "vmm/vdso/time_data.h"

namespace vmm {

class TimePage {
 public:
  // `page`: VMSRS_TIME_PAGE_SIZE writable bytes (an alias of the guest's page), which outlive the
  // TimePage; null: none. Where the host itself does not use the counter as its clock, the page
  // says so and every reader falls back. Takes about 2 ms.
  static Result<std::shared_ptr<TimePage>> create(std::byte* page);
  ~TimePage();
  TimePage(TimePage const&) = delete;
  TimePage& operator=(TimePage const&) = delete;

  // False: the page does not serve this clock (clockid_t); ask the host. Waits for an update under way.
  [[nodiscard]] bool read(int clock, int64_t& ns) const noexcept;
  [[nodiscard]] bool valid() const noexcept { return own_.valid != 0; }
  // Whether IA32_TSC_AUX in the guest is the host's own (true for a guest without a TSC_AUX of its
  // own): getcpu then needs no call.
  void set_cpu_from_aux(bool on);
  // Measures and publishes now; what the updater does. For tests, and after the host was suspended.
  void update();

 private:
  struct Sample {
    uint64_t tsc = 0;
    int64_t ns = 0;
  };
  // What is known of the difference of two host clocks; grows narrower until the clock is set.
  struct Offset {
    int64_t low = INT64_MIN, high = INT64_MAX, published = 0;
    bool known = false;
    void narrow(int64_t new_low, int64_t new_high);
  };

  explicit TimePage(std::byte* page) : guest_(reinterpret_cast<vmsrs_time_data*>(page)) {}
  static Sample sample();
  static void measure(int clock, Offset& offset, int rounds);
  void calibrate();
  void run();
  template <class Change>
  void publish(Change const& change);
  bool publish_line(Sample const& now, double ns_per_tick);

  vmsrs_time_data own_{};
  vmsrs_time_data* guest_ = nullptr;
  std::mutex update_mutex_;
  std::deque<Sample> history_;
  Offset realtime_, boottime_;

  std::mutex stop_mutex_;
  std::condition_variable stop_changed_;
  bool stop_ = false;
  std::thread updater_;
};

}  // namespace vmm
