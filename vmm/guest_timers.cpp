#include "vmm/guest_timers.hpp"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <ctime>

#include "vmm/process.hpp"
#include "vmm/thread.hpp"

namespace vmm {
namespace {

constexpr int64_t kSecond = 1'000'000'000, kMillisecond = 1'000'000;
constexpr size_t kMaxTimers = 4096;
constexpr int kStopId = INT_MIN;

int64_t to_ns(timespec const& t) {
  return t.tv_sec * kSecond + t.tv_nsec;
}
timespec to_timespec(int64_t ns) {
  return {ns / kSecond, ns % kSecond};
}
bool valid(timespec const& t) {
  return t.tv_sec >= 0 && t.tv_nsec >= 0 && t.tv_nsec < kSecond && t.tv_sec < INT64_MAX / kSecond;
}

int64_t read_clock(clockid_t id) {
  timespec now{};
  return clock_gettime(id, &now) == 0 ? to_ns(now) : 0;
}

// A CPU clock of one thread: bit 2 of a dynamic clock id (clock_getcpuclockid(3)).
bool counts_one_thread(clockid_t clock) {
  return clock < 0 && (clock & 4) != 0;
}

int interval_id(int which) {
  return -1 - which;
}

}  // namespace

GuestTimers::GuestTimers(Process& process) : process_(process) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = static_cast<uint32_t>(kStopId)}};
  if (epoll_ < 0 || stop_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, stop_, &event) != 0) return;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

GuestTimers::~GuestTimers() {
  if (thread_.joinable()) {
    eventfd_write(stop_, 1);
    thread_.join();
  }
  for (auto& [id, timer] : timers_)
    if (timer.fd >= 0) ::close(timer.fd);
  if (epoll_ >= 0) ::close(epoll_);
  if (stop_ >= 0) ::close(stop_);
}

void GuestTimers::run() {
  pthread_setname_np(pthread_self(), "guest-timers");
  std::array<epoll_event, 16> events;
  for (;;) {
    int const n = epoll_wait(epoll_, events.data(), events.size(), -1);
    if (n < 0 && errno != EINTR) return;
    for (int i = 0; i < n; i++) {
      int const id = static_cast<int>(static_cast<uint32_t>(events[i].data.u64));
      if (id == kStopId) return;
      std::lock_guard deliver(deliver_mutex_);
      Expiry expiry{};
      {
        std::lock_guard lock(mutex_);
        auto it = timers_.find(id);
        if (it == timers_.end() || !expire(it->second, expiry)) continue;
      }
      send(expiry);
    }
  }
}

int64_t GuestTimers::cpu_now(Timer const& timer) const {
  switch (timer.clock) {
    case Clock::kCpu:
      return read_clock(timer.host_clock);
    case Clock::kUserCpu: {
      rusage usage{};
      getrusage(RUSAGE_SELF, &usage);
      return usage.ru_utime.tv_sec * kSecond + usage.ru_utime.tv_usec * 1000;
    }
    case Clock::kHost:
      break;
  }
  return 0;
}

void GuestTimers::arm_cpu(Timer& timer, int64_t now) {
  itimerspec alarm{};
  if (timer.deadline != 0) {
    int64_t const cpus = counts_one_thread(timer.host_clock) ? 1 : sysconf(_SC_NPROCESSORS_ONLN);
    alarm.it_value = to_timespec(std::max((timer.deadline - now) / std::max<int64_t>(cpus, 1), kMillisecond));
  }
  timerfd_settime(timer.fd, 0, &alarm, nullptr);
}

// Whether the timer has expired; then `expiry` is what to send.
bool GuestTimers::expire(Timer& timer, Expiry& expiry) {
  uint64_t count = 0;
  if (::read(timer.fd, &count, sizeof count) != sizeof count) return false;
  if (timer.clock != Clock::kHost) {
    int64_t const now = cpu_now(timer);
    if (timer.deadline == 0) return false;
    bool const reached = now >= timer.deadline;
    if (reached) {
      count = 1;
      if (timer.period != 0) count += static_cast<uint64_t>((now - timer.deadline) / timer.period);
      timer.deadline = timer.period != 0 ? timer.deadline + timer.period * static_cast<int64_t>(count) : 0;
    }
    arm_cpu(timer, now);
    if (!reached) return false;
  }
  if (timer.target.signal == 0) return false;
  expiry.tid = timer.target.tid;
  PendingSignal& p = expiry.signal;
  p.signal = timer.target.signal;
  p.info.si_signo = p.signal;
  if (timer.interval_timer) {
    p.info.si_code = SI_KERNEL;
    return true;
  }
  p.info.si_code = SI_TIMER;
  p.info.si_timerid = timer.id;
  p.info.si_overrun = static_cast<int>(std::min<uint64_t>(count - 1, INT_MAX));
  p.info.si_value.sival_ptr =
      reinterpret_cast<void*>(timer.target.value_is_id ? static_cast<uint64_t>(timer.id) : timer.target.value);
  p.timer = timer.overrun;
  return true;
}

void GuestTimers::send(Expiry const& expiry) {
  if (expiry.tid == 0) {
    process_.signals().send(process_, expiry.signal);
    return;
  }
  // A thread that is gone: the kernel drops the signal too.
  process_.with_thread(expiry.tid, [&](Thread& t) { process_.signals().send(t, expiry.signal); });
}

int GuestTimers::open_timer(Timer& timer) {
  if (!thread_.joinable()) return -EAGAIN;
  timer.fd =
      timerfd_create(timer.clock == Clock::kHost ? timer.host_clock : CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer.fd < 0) return errno == EINVAL ? -EINVAL : -EAGAIN;
  epoll_event event{.events = EPOLLIN, .data = {.u64 = static_cast<uint32_t>(timer.id)}};
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, timer.fd, &event) != 0) {
    ::close(timer.fd);
    timer.fd = -1;
    return -EAGAIN;
  }
  return 0;
}

int GuestTimers::create(clockid_t clock, Target const& target) {
  Timer timer;
  timer.target = target;
  timer.host_clock = clock;
  timer.overrun = std::make_shared<TimerOverrun>();
  if (clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID) {
    timer.clock = Clock::kCpu;
  } else if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME) {
    return -EINVAL;
  }
  std::lock_guard lock(mutex_);
  if (timers_.size() >= kMaxTimers) return -EAGAIN;
  timer.id = next_id_;
  if (int const r = open_timer(timer); r != 0) return r;
  next_id_ = next_id_ == INT_MAX ? 0 : next_id_ + 1;
  while (timers_.contains(next_id_)) next_id_++;
  int const id = timer.id;
  timers_.emplace(id, std::move(timer));
  return id;
}

int GuestTimers::set_locked(Timer& timer, bool absolute, itimerspec const& next, itimerspec* previous) {
  if (!valid(next.it_value) || !valid(next.it_interval)) return -EINVAL;
  if (previous != nullptr) get_locked(timer, *previous);
  if (timer.clock == Clock::kHost)
    return timerfd_settime(timer.fd, absolute ? TFD_TIMER_ABSTIME : 0, &next, nullptr) == 0 ? 0 : -errno;
  int64_t const now = cpu_now(timer), value = to_ns(next.it_value);
  timer.period = to_ns(next.it_interval);
  timer.deadline = value == 0 ? 0 : absolute ? value : now + value;
  arm_cpu(timer, now);
  return 0;
}

void GuestTimers::get_locked(Timer const& timer, itimerspec& now) {
  now = {};
  if (timer.clock == Clock::kHost) {
    timerfd_gettime(timer.fd, &now);
    return;
  }
  if (timer.deadline == 0) return;
  now.it_interval = to_timespec(timer.period);
  now.it_value = to_timespec(std::max<int64_t>(timer.deadline - cpu_now(timer), 1));
}

int GuestTimers::set(int id, bool absolute, itimerspec const& next, itimerspec* previous) {
  std::lock_guard lock(mutex_);
  auto it = timers_.find(id);
  if (id < 0 || it == timers_.end()) return -EINVAL;
  return set_locked(it->second, absolute, next, previous);
}

int GuestTimers::get(int id, itimerspec& now) {
  std::lock_guard lock(mutex_);
  auto it = timers_.find(id);
  if (id < 0 || it == timers_.end()) return -EINVAL;
  get_locked(it->second, now);
  return 0;
}

int GuestTimers::overrun(int id) {
  std::shared_ptr<TimerOverrun> overrun;
  {
    std::lock_guard lock(mutex_);
    auto it = timers_.find(id);
    if (id < 0 || it == timers_.end()) return -EINVAL;
    overrun = it->second.overrun;
  }
  return process_.signals().timer_overrun(*overrun);
}

int GuestTimers::remove(int id) {
  std::lock_guard lock(mutex_);
  auto it = timers_.find(id);
  if (id < 0 || it == timers_.end()) return -EINVAL;
  ::close(it->second.fd);
  timers_.erase(it);
  return 0;
}

int GuestTimers::set_interval(int which, itimerspec const& next, itimerspec* previous) {
  std::lock_guard lock(mutex_);
  auto it = timers_.find(interval_id(which));
  if (it == timers_.end()) {
    Timer timer;
    timer.id = interval_id(which);
    timer.interval_timer = true;
    timer.overrun = std::make_shared<TimerOverrun>();
    switch (which) {
      case ITIMER_REAL:
        timer.host_clock = CLOCK_MONOTONIC;
        timer.target.signal = SIGALRM;
        break;
      case ITIMER_VIRTUAL:
        timer.clock = Clock::kUserCpu;
        timer.target.signal = SIGVTALRM;
        break;
      case ITIMER_PROF:
        timer.clock = Clock::kCpu;
        timer.host_clock = CLOCK_PROCESS_CPUTIME_ID;
        timer.target.signal = SIGPROF;
        break;
      default:
        return -EINVAL;
    }
    if (int const r = open_timer(timer); r != 0) return r;
    it = timers_.emplace(timer.id, std::move(timer)).first;
  }
  return set_locked(it->second, false, next, previous);
}

int GuestTimers::get_interval(int which, itimerspec& now) {
  if (which != ITIMER_REAL && which != ITIMER_VIRTUAL && which != ITIMER_PROF) return -EINVAL;
  std::lock_guard lock(mutex_);
  auto it = timers_.find(interval_id(which));
  if (it == timers_.end()) {
    now = {};
  } else {
    get_locked(it->second, now);
  }
  return 0;
}

}  // namespace vmm
