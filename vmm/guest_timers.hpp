// The guest's timers: setitimer's three and POSIX timers. One thread of the monitor waits for all
// of them (a host timerfd each) and sends their signals.
//
// Timers on CPU time (ITIMER_VIRTUAL, ITIMER_PROF, CLOCK_PROCESS_CPUTIME_ID,
// CLOCK_THREAD_CPUTIME_ID) have no timerfd: the thread looks at the CPU clock again when it can have
// reached the deadline at the earliest, at most once a millisecond. They count the monitor's own
// CPU time for the guest's.
//
// Thread-safe.
#pragma once

#include <sys/timerfd.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "vmm/signals.hpp"

namespace vmm {

class Process;
class StateAccess;

class GuestTimers {
 public:
  explicit GuestTimers(Process& process);
  ~GuestTimers();  // ends the thread
  GuestTimers(GuestTimers const&) = delete;
  GuestTimers& operator=(GuestTimers const&) = delete;

  struct Target {
    int signal = 0;      // 0: SIGEV_NONE
    int tid = 0;         // 0: the process
    uint64_t value = 0;  // sigev_value
    bool value_is_id = false;
  };
  // timer_create: the timer's id or -errno. `clock`: a host clock id, of which CPU clocks of a thread must name it
  // (not CLOCK_THREAD_CPUTIME_ID, which would be the timer thread's own).
  int create(clockid_t clock, Target const& target);
  int set(int id, bool absolute, itimerspec const& next, itimerspec* previous);
  int get(int id, itimerspec& now);
  int overrun(int id);
  int remove(int id);

  // setitimer, getitimer; `which` as ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF. 0 or -errno.
  int set_interval(int which, itimerspec const& next, itimerspec* previous);
  int get_interval(int which, itimerspec& now);

 private:
  friend class StateAccess;  // vmm/checkpoint
  enum class Clock { kHost, kCpu, kUserCpu };
  struct Timer {
    int id = 0;
    Clock clock = Clock::kHost;
    clockid_t host_clock = 0;
    Target target;
    bool interval_timer = false;
    int fd = -1;
    int64_t deadline = 0, period = 0;  // CPU time, ns; deadline 0: not set
    std::shared_ptr<TimerOverrun> overrun;
  };
  struct Expiry {
    PendingSignal signal;
    int tid;
  };

  void run();
  int open_timer(Timer& timer);
  int set_locked(Timer& timer, bool absolute, itimerspec const& next, itimerspec* previous);
  void get_locked(Timer const& timer, itimerspec& now);
  void arm_cpu(Timer& timer, int64_t now);
  bool expire(Timer& timer, Expiry& expiry);
  int64_t cpu_now(Timer const& timer) const;
  void send(Expiry const& expiry);

  Process& process_;
  std::mutex deliver_mutex_;  // from a timer's expiry until its signal is queued; a checkpoint must not fall between
  std::mutex mutex_;
  std::map<int, Timer> timers_;  // setitimer's at -1, -2, -3
  int next_id_ = 0;
  int epoll_ = -1, stop_ = -1;
  std::thread thread_;
};

}  // namespace vmm
