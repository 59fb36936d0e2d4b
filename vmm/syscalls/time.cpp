// Clock calls. What the vDSO also answers is read by the same figures (vmm/clock.hpp); clocks cannot
// be set. timerfd_* are with the other descriptors.
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <syscall.h>

#include <cerrno>
#include <ctime>

#include "vmm/address_space.hpp"
#include "vmm/clock.hpp"
#include "vmm/process.hpp"
#include "vmm/syscall.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/thread.hpp"

namespace vmm {
namespace {

GuestAddr arg_addr(SyscallArgs const& args, int i) {
  return GuestAddr(args.a[i]);
}
clockid_t arg_clock(SyscallArgs const& args) {
  return static_cast<clockid_t>(args.a[0]);
}

int64_t clock_gettime_row(Thread& thread, SyscallArgs const& args) {
  timespec now{};
  if (int const r = read_guest_clock(thread, arg_clock(args), now); r != 0) return r;
  return write_out(thread, arg_addr(args, 1), now) ? 0 : -EFAULT;
}

int64_t clock_getres_row(Thread& thread, SyscallArgs const& args) {
  auto const host = host_clock(thread, arg_clock(args));
  timespec resolution{};
  if (!host) return -EINVAL;
  if (clock_getres(*host, &resolution) != 0) return -errno;
  if (args.a[1] == 0) return 0;
  return write_out(thread, arg_addr(args, 1), resolution) ? 0 : -EFAULT;
}

int64_t gettimeofday_row(Thread& thread, SyscallArgs const& args) {
  if (args.a[0] != 0) {
    timespec now{};
    if (int const r = read_guest_clock(thread, CLOCK_REALTIME, now); r != 0) return r;
    timeval const value{now.tv_sec, now.tv_nsec / 1000};
    if (!write_out(thread, arg_addr(args, 0), value)) return -EFAULT;
  }
  if (args.a[1] != 0) {
    struct timezone zone {};
    timeval unused{};
    gettimeofday(&unused, &zone);
    if (!write_out(thread, arg_addr(args, 1), zone)) return -EFAULT;
  }
  return 0;
}

int64_t time_row(Thread& thread, SyscallArgs const& args) {
  timespec now{};
  if (int const r = read_guest_clock(thread, CLOCK_REALTIME, now); r != 0) return r;
  if (args.a[0] != 0 && !write_out(thread, arg_addr(args, 0), now.tv_sec)) return -EFAULT;
  return now.tv_sec;
}

int64_t times_row(Thread& thread, SyscallArgs const& args) {
  tms used{};
  errno = 0;
  clock_t const ticks = times(&used);
  if (args.a[0] != 0 && !write_out(thread, arg_addr(args, 0), used)) return -EFAULT;
  return ticks;
}

int64_t adjust(Thread& thread, clockid_t clock, GuestAddr at) {
  timex state{};
  if (!thread.memory().read(at, state)) return -EFAULT;
  if (state.modes != 0) return -EPERM;
  int const r = clock_adjtime(clock, &state);
  if (r < 0) return -errno;
  return write_out(thread, at, state) ? r : -EFAULT;
}

int64_t adjtimex_row(Thread& thread, SyscallArgs const& args) {
  return adjust(thread, CLOCK_REALTIME, arg_addr(args, 0));
}

int64_t clock_adjtime_row(Thread& thread, SyscallArgs const& args) {
  if (arg_clock(args) != CLOCK_REALTIME) return -EINVAL;
  return adjust(thread, CLOCK_REALTIME, arg_addr(args, 1));
}

// ---- sleeping ----

bool interrupted(int64_t r) {
  return r == kRestartSys || r == -EINTR;
}

int64_t now_on(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return to_ns(now);
}

int64_t sleep_until(Thread& thread, clockid_t clock, timespec const& until) {
  return thread.block_in(SYS_clock_nanosleep, static_cast<uint64_t>(clock), TIMER_ABSTIME,
                         reinterpret_cast<uint64_t>(&until), 0);
}

int64_t sleep_for(Thread& thread, clockid_t clock, timespec const& span, GuestAddr rest) {
  // Relative sleeps on the real-time clock do not follow its jumps: as Linux, monotonic time.
  if (clock == CLOCK_REALTIME) clock = CLOCK_MONOTONIC;
  int64_t& deadline = thread.restart_deadline();
  if (deadline == 0) {
    int64_t const now = now_on(clock);
    deadline = span.tv_sec >= (INT64_MAX - now) / kNsPerSecond - 1 ? INT64_MAX : now + to_ns(span);
  }
  int64_t const r = sleep_until(thread, clock, to_timespec(deadline));
  if (!interrupted(r)) return r;
  int64_t const left = deadline - now_on(clock);
  if (left <= 0) return 0;
  if (rest && !write_out(thread, rest, to_timespec(left))) return -EFAULT;
  return kRestartBlock;
}

bool read_span(Thread& thread, GuestAddr from, timespec& span, int64_t& error) {
  error = !thread.memory().read(from, span)                                     ? -EFAULT
          : span.tv_sec < 0 || span.tv_nsec < 0 || span.tv_nsec >= kNsPerSecond ? -EINVAL
                                                                                : 0;
  return error == 0;
}

int64_t nanosleep_row(Thread& thread, SyscallArgs const& args) {
  timespec span{};
  int64_t error = 0;
  if (!read_span(thread, arg_addr(args, 0), span, error)) return error;
  return sleep_for(thread, CLOCK_MONOTONIC, span, arg_addr(args, 1));
}

int64_t clock_nanosleep_row(Thread& thread, SyscallArgs const& args) {
  auto const host = host_clock(thread, arg_clock(args));
  if (!host || *host == CLOCK_THREAD_CPUTIME_ID) return -EINVAL;
  timespec span{};
  int64_t error = 0;
  if (!read_span(thread, arg_addr(args, 2), span, error)) return error;
  if (!(args.a[1] & TIMER_ABSTIME)) return sleep_for(thread, *host, span, arg_addr(args, 3));
  int64_t const r = sleep_until(thread, *host, span);
  return interrupted(r) ? kRestartNoHand : r;
}

// ---- the table ----

constexpr ArgSpec kInt{Arg::kInt};
constexpr ArgSpec in(int32_t size) {
  return {Arg::kIn, size};
}
constexpr ArgSpec out(int32_t size, bool nullable = false) {
  return {Arg::kOut, size, nullable};
}
constexpr int32_t kSpec = sizeof(timespec);
constexpr char const* kReadOnly = "the guest cannot set the host's clock";

constexpr SyscallRow kRows[] = {
    {SYS_clock_gettime, "clock_gettime", {kInt, out(kSpec)}, clock_gettime_row},
    {SYS_clock_getres, "clock_getres", {kInt, out(kSpec, true)}, clock_getres_row},
    {SYS_clock_settime, "clock_settime", {kInt, in(kSpec)}, deny, Support::kDenied, kReadOnly},
    {SYS_settimeofday,
     "settimeofday",
     {in(sizeof(timeval)), in(sizeof(struct timezone))},
     deny,
     Support::kDenied,
     kReadOnly},
    {SYS_clock_nanosleep, "clock_nanosleep", {kInt, kInt, in(kSpec), out(kSpec, true)}, clock_nanosleep_row},
    {SYS_nanosleep, "nanosleep", {in(kSpec), out(kSpec, true)}, nanosleep_row},
    {SYS_gettimeofday,
     "gettimeofday",
     {out(sizeof(timeval), true), out(sizeof(struct timezone), true)},
     gettimeofday_row},
    {SYS_time, "time", {out(sizeof(time_t), true)}, time_row},
    {SYS_times, "times", {out(sizeof(tms), true)}, times_row, Support::kPartial, "counts the monitor's CPU time too"},
    {SYS_adjtimex, "adjtimex", {ArgSpec{Arg::kInOut, sizeof(timex)}}, adjtimex_row, Support::kPartial, kReadOnly},
    {SYS_clock_adjtime,
     "clock_adjtime",
     {kInt, ArgSpec{Arg::kInOut, sizeof(timex)}},
     clock_adjtime_row,
     Support::kPartial,
     kReadOnly},
};

}  // namespace

std::span<SyscallRow const> time_rows() {
  return kRows;
}

}  // namespace vmm
