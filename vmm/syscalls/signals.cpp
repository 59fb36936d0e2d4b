// Signal calls: rt_sig*, kill and its kind, sigaltstack, pause, interval timers and POSIX timers.
// None of them reaches the host but as a wait: the guest's signals are the monitor's own objects.
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "vmm/address_space.hpp"
#include "vmm/clock.hpp"
#include "vmm/guest_timers.hpp"
#include "vmm/process.hpp"
#include "vmm/signal_frame.hpp"
#include "vmm/syscall.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/thread.hpp"

namespace vmm {
namespace {

constexpr uint64_t kSigsetSize = 8;
constexpr int64_t kSecond = 1'000'000'000;

bool valid_signal(uint64_t sig) {
  return sig >= 1 && sig <= kSignals;
}
// For kill and its kind: the number is an int, and 0 only asks.
bool valid_signal_or_none(int sig) {
  return sig >= 0 && sig <= kSignals;
}

GuestAddr arg_addr(SyscallArgs const& args, int i) {
  return GuestAddr(args.a[i]);
}
int arg_int(SyscallArgs const& args, int i) {
  return static_cast<int>(args.a[i]);
}

int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * kSecond + t.tv_nsec;
}

bool is_restart(int64_t result) {
  return result == kRestartSys || result == kRestartNoHand || result == kRestartBlock || result == -EINTR;
}

// ---- dispositions and masks ----

int64_t rt_sigaction(Thread& thread, SyscallArgs const& args) {
  uint64_t const sig = args.a[0];
  if (args.a[3] != kSigsetSize || !valid_signal(sig)) return -EINVAL;
  ProcessSignals& signals = thread.process().signals();
  KernelSigaction next;
  if (args.a[1] != 0) {
    if (!thread.memory().read(arg_addr(args, 1), next)) return -EFAULT;
    if (sigbit(static_cast<int>(sig)) & kUnblockable) return -EINVAL;
  }
  KernelSigaction const before = signals.action(static_cast<int>(sig));
  if (args.a[1] != 0) signals.set_action(thread.process(), static_cast<int>(sig), next);
  if (args.a[2] != 0 && !write_out(thread, arg_addr(args, 2), before)) return -EFAULT;
  return 0;
}

int64_t rt_sigprocmask(Thread& thread, SyscallArgs const& args) {
  if (args.a[3] != kSigsetSize) return -EINVAL;
  uint64_t const before = thread.signals().blocked.load();
  if (args.a[1] != 0) {
    uint64_t set = 0;
    if (!thread.memory().read(arg_addr(args, 1), set)) return -EFAULT;
    switch (arg_int(args, 0)) {
      case SIG_BLOCK:
        set |= before;
        break;
      case SIG_UNBLOCK:
        set = before & ~set;
        break;
      case SIG_SETMASK:
        break;
      default:
        return -EINVAL;
    }
    thread.process().signals().set_blocked(thread, set);
  }
  if (args.a[2] != 0 && !write_out(thread, arg_addr(args, 2), before)) return -EFAULT;
  return 0;
}

int64_t rt_sigpending(Thread& thread, SyscallArgs const& args) {
  if (args.a[1] > kSigsetSize) return -EINVAL;
  uint64_t const set = thread.process().signals().pending(thread) & thread.signals().blocked.load();
  return write_out(thread, arg_addr(args, 0), &set, args.a[1]) ? 0 : -EFAULT;
}

int64_t sigaltstack_row(Thread& thread, SyscallArgs const& args) {
  SignalStack next, previous;
  if (args.a[0] != 0 && !thread.memory().read(arg_addr(args, 0), next)) return -EFAULT;
  int const r = change_alt_stack(thread.signals(), thread.regs().rsp, args.a[0] != 0 ? &next : nullptr, &previous);
  if (r == 0 && args.a[1] != 0 && !write_out(thread, arg_addr(args, 1), previous)) return -EFAULT;
  return r;
}

int64_t rt_sigreturn(Thread& thread, SyscallArgs const&) {
  ProcessSignals& signals = thread.process().signals();
  if (signals.sigreturn(thread)) return kRegistersSet;
  // As the kernel: a bad frame is a SIGSEGV of the thread's own, which its handler may take.
  PendingSignal bad;
  bad.signal = SIGSEGV;
  bad.info.si_signo = SIGSEGV;
  bad.info.si_code = SI_KERNEL;
  KernelSigaction const action = signals.action(SIGSEGV);
  if (action.handler == 1 || (thread.signals().blocked.load() & sigbit(SIGSEGV))) {
    signals.set_action(thread.process(), SIGSEGV, {});
    signals.set_blocked(thread, thread.signals().blocked.load() & ~sigbit(SIGSEGV));
  }
  signals.send(thread, bad);
  return 0;
}

// ---- waiting ----

// Nothing but a kick ends it: a signal, a pause, the process's end.
int64_t wait_for_kick(Thread& thread, timespec* limit) {
  return thread.block_in(SYS_ppoll, 0, 0, reinterpret_cast<uint64_t>(limit), 0, kSigsetSize);
}

int64_t pause_row(Thread& thread, SyscallArgs const&) {
  int64_t const r = wait_for_kick(thread, nullptr);
  return is_restart(r) ? kRestartNoHand : r;
}

int64_t rt_sigsuspend(Thread& thread, SyscallArgs const& args) {
  uint64_t mask = 0;
  if (args.a[1] != kSigsetSize) return -EINVAL;
  if (!thread.memory().read(arg_addr(args, 0), mask)) return -EFAULT;
  thread.process().signals().set_temporary_mask(thread, mask);
  int64_t const r = wait_for_kick(thread, nullptr);
  int64_t const result = is_restart(r) ? kRestartNoHand : r;
  thread.process().signals().end_temporary_mask(thread, result);
  return result;
}

int64_t rt_sigtimedwait(Thread& thread, SyscallArgs const& args) {
  if (args.a[3] != kSigsetSize) return -EINVAL;
  uint64_t set = 0;
  timespec limit{};
  bool const limited = args.a[2] != 0;
  if (!thread.memory().read(arg_addr(args, 0), set)) return -EFAULT;
  set &= ~kUnblockable;
  if (limited) {
    if (!thread.memory().read(arg_addr(args, 2), limit)) return -EFAULT;
    if (limit.tv_sec < 0 || limit.tv_nsec < 0 || limit.tv_nsec >= kSecond) return -EINVAL;
  }
  ProcessSignals& signals = thread.process().signals();
  int64_t& deadline = thread.restart_deadline();
  if (limited && deadline == 0) {
    int64_t const now = now_ns();
    deadline =
        limit.tv_sec >= (INT64_MAX - now) / kSecond - 1 ? INT64_MAX : now + limit.tv_sec * kSecond + limit.tv_nsec;
  }

  // From the first look on, a sender kicks this thread for signals of the set, blocked or not.
  thread.signals().waiting_for.store(set);
  std::optional<PendingSignal> taken = signals.take(thread, set);
  int64_t result = -EAGAIN;
  if (!taken) {
    int64_t const left = limited ? deadline - now_ns() : 0;
    if (!limited || left > 0) {
      timespec wait{left / kSecond, left % kSecond};
      int64_t const r = wait_for_kick(thread, limited ? &wait : nullptr);
      if (is_restart(r)) {
        // Linux says EINTR to any handler; without one the wait goes on.
        result = kRestartBlock;
      } else if (r != 0) {
        result = r;
      }
    }
  }
  thread.signals().waiting_for.store(0);
  // What was sent to this thread while it waited must not stay behind.
  if (!taken) taken = signals.take(thread, set);
  if (!taken) return result;
  if (args.a[1] != 0 && !write_out(thread, arg_addr(args, 1), taken->info)) return -EFAULT;
  return taken->signal;
}

// ---- sending ----

// The guest is alone in its world: its own process, and a parent that it may not signal.
constexpr int kVirtualParent = 1;

int64_t send_to_process(Thread& thread, int sig, PendingSignal const& signal) {
  if (sig == 0) return 0;
  return thread.process().signals().send(thread.process(), signal);
}

int64_t kill_row(Thread& thread, SyscallArgs const& args) {
  int const pid = arg_int(args, 0), sig = arg_int(args, 1);
  if (!valid_signal_or_none(sig)) return -EINVAL;
  bool mine = pid == 0 || pid == Process::pid() || pid == -Process::pid();
  // Linux takes a thread's id for its process here.
  if (!mine && pid > 0) mine = thread.process().with_thread(pid, [](Thread&) {});
  if (mine) return send_to_process(thread, sig, signal_from(thread, sig, SI_USER));
  // -1 is everybody but the caller: nobody.
  return pid == kVirtualParent ? -EPERM : -ESRCH;
}

int64_t send_to_thread(Thread& thread, int tid, int sig, PendingSignal const& signal) {
  if (tid == thread.tid()) return sig == 0 ? 0 : thread.process().signals().send(thread, signal);
  int64_t result = -ESRCH;
  thread.process().with_thread(
      tid, [&](Thread& target) { result = sig == 0 ? 0 : thread.process().signals().send(target, signal); });
  return result;
}

int64_t tgkill_row(Thread& thread, SyscallArgs const& args) {
  int const pid = arg_int(args, 0), tid = arg_int(args, 1), sig = arg_int(args, 2);
  if (pid <= 0 || tid <= 0 || !valid_signal_or_none(sig)) return -EINVAL;
  if (pid != Process::pid()) return -ESRCH;
  return send_to_thread(thread, tid, sig, signal_from(thread, sig, SI_TKILL));
}

int64_t tkill_row(Thread& thread, SyscallArgs const& args) {
  int const tid = arg_int(args, 0), sig = arg_int(args, 1);
  if (tid <= 0 || !valid_signal_or_none(sig)) return -EINVAL;
  return send_to_thread(thread, tid, sig, signal_from(thread, sig, SI_TKILL));
}

// The caller's siginfo, as it is: a process may tell itself anything.
bool read_siginfo(Thread& thread, GuestAddr from, int sig, PendingSignal& signal) {
  if (!thread.memory().read(from, signal.info)) return false;
  signal.signal = sig;
  signal.info.si_signo = sig;
  signal.sender_tid = thread.tid();
  return true;
}

int64_t rt_sigqueueinfo(Thread& thread, SyscallArgs const& args) {
  int const pid = arg_int(args, 0), sig = arg_int(args, 1);
  PendingSignal signal;
  if (!read_siginfo(thread, arg_addr(args, 2), sig, signal)) return -EFAULT;
  if (!valid_signal_or_none(sig)) return -EINVAL;
  if (pid != Process::pid()) return pid == kVirtualParent ? -EPERM : -ESRCH;
  return send_to_process(thread, sig, signal);
}

int64_t rt_tgsigqueueinfo(Thread& thread, SyscallArgs const& args) {
  int const pid = arg_int(args, 0), tid = arg_int(args, 1), sig = arg_int(args, 2);
  PendingSignal signal;
  if (!read_siginfo(thread, arg_addr(args, 3), sig, signal)) return -EFAULT;
  if (pid <= 0 || tid <= 0 || !valid_signal_or_none(sig)) return -EINVAL;
  if (pid != Process::pid()) return -ESRCH;
  return send_to_thread(thread, tid, sig, signal);
}

// ---- interval timers ----

constexpr int64_t kMicro = 1000;

bool to_itimerspec(itimerval const& from, itimerspec& to) {
  for (timeval const* t : {&from.it_value, &from.it_interval})
    if (t->tv_sec < 0 || t->tv_usec < 0 || t->tv_usec >= kSecond / kMicro) return false;
  to.it_value = {from.it_value.tv_sec, from.it_value.tv_usec * kMicro};
  to.it_interval = {from.it_interval.tv_sec, from.it_interval.tv_usec * kMicro};
  return true;
}

itimerval to_itimerval(itimerspec const& from) {
  return {{from.it_interval.tv_sec, from.it_interval.tv_nsec / kMicro},
          {from.it_value.tv_sec, from.it_value.tv_nsec / kMicro}};
}

int64_t setitimer_row(Thread& thread, SyscallArgs const& args) {
  itimerval given{};  // a null pointer means zeroes: Linux's old kindness
  if (args.a[1] != 0 && !thread.memory().read(arg_addr(args, 1), given)) return -EFAULT;
  itimerspec next{}, previous{};
  if (!to_itimerspec(given, next)) return -EINVAL;
  GuestTimers& timers = thread.process().signals().timers(thread.process());
  if (int const r = timers.set_interval(arg_int(args, 0), next, &previous); r != 0) return r;
  if (args.a[2] != 0 && !write_out(thread, arg_addr(args, 2), to_itimerval(previous))) return -EFAULT;
  return 0;
}

int64_t getitimer_row(Thread& thread, SyscallArgs const& args) {
  itimerspec now{};
  GuestTimers& timers = thread.process().signals().timers(thread.process());
  if (int const r = timers.get_interval(arg_int(args, 0), now); r != 0) return r;
  return write_out(thread, arg_addr(args, 1), to_itimerval(now)) ? 0 : -EFAULT;
}

int64_t alarm_row(Thread& thread, SyscallArgs const& args) {
  itimerspec next{}, previous{};
  next.it_value.tv_sec = static_cast<uint32_t>(args.a[0]);
  GuestTimers& timers = thread.process().signals().timers(thread.process());
  if (int const r = timers.set_interval(ITIMER_REAL, next, &previous); r != 0) return r;
  // Rounded as the kernel does: never 0 while something was set.
  time_t seconds = previous.it_value.tv_sec;
  if ((seconds == 0 && previous.it_value.tv_nsec != 0) || previous.it_value.tv_nsec >= kSecond / 2) seconds++;
  return seconds;
}

// ---- POSIX timers ----

// struct sigevent as the kernel reads it: 64 bytes.
struct KernelSigevent {
  uint64_t value;
  int32_t signo, notify, tid;
  int32_t pad[11];
};
static_assert(sizeof(KernelSigevent) == 64);

int64_t timer_create_row(Thread& thread, SyscallArgs const& args) {
  GuestTimers::Target target{.signal = SIGALRM, .value_is_id = true};
  if (args.a[1] != 0) {
    KernelSigevent event{};
    if (!thread.memory().read(arg_addr(args, 1), event)) return -EFAULT;
    target = {.value = event.value};
    switch (event.notify) {
      case SIGEV_NONE:
        break;
      case SIGEV_THREAD_ID:
        target.tid = event.tid;
        if (!thread.process().with_thread(event.tid, [](Thread&) {})) return -EINVAL;
        [[fallthrough]];
      case SIGEV_SIGNAL:
        if (!valid_signal(static_cast<uint64_t>(event.signo))) return -EINVAL;
        target.signal = event.signo;
        break;
      default:
        return -EINVAL;
    }
  }
  auto clock = host_clock(thread, arg_int(args, 0));
  if (!clock) return -EINVAL;
  if (*clock == CLOCK_THREAD_CPUTIME_ID) clock = thread_cpu_clock(thread);
  GuestTimers& timers = thread.process().signals().timers(thread.process());
  int const id = timers.create(*clock, target);
  if (id < 0) return id;
  if (!write_out(thread, arg_addr(args, 2), id)) {
    timers.remove(id);
    return -EFAULT;
  }
  return 0;
}

int64_t timer_settime_row(Thread& thread, SyscallArgs const& args) {
  itimerspec next{}, previous{};
  if (args.a[2] == 0) return -EINVAL;
  if (!thread.memory().read(arg_addr(args, 2), next)) return -EFAULT;
  GuestTimers& timers = thread.process().signals().timers(thread.process());
  bool const absolute = args.a[1] & TIMER_ABSTIME;
  if (int const r = timers.set(arg_int(args, 0), absolute, next, &previous); r != 0) return r;
  return args.a[3] == 0 || write_out(thread, arg_addr(args, 3), previous) ? 0 : -EFAULT;
}

int64_t timer_gettime_row(Thread& thread, SyscallArgs const& args) {
  itimerspec now{};
  GuestTimers& timers = thread.process().signals().timers(thread.process());
  if (int const r = timers.get(arg_int(args, 0), now); r != 0) return r;
  return write_out(thread, arg_addr(args, 1), now) ? 0 : -EFAULT;
}

int64_t timer_getoverrun_row(Thread& thread, SyscallArgs const& args) {
  return thread.process().signals().timers(thread.process()).overrun(arg_int(args, 0));
}

int64_t timer_delete_row(Thread& thread, SyscallArgs const& args) {
  return thread.process().signals().timers(thread.process()).remove(arg_int(args, 0));
}

// ---- the table ----

constexpr ArgSpec kInt{Arg::kInt};
constexpr ArgSpec kSet{Arg::kSigset, kSigsetSize};
constexpr ArgSpec in(int32_t size, bool nullable = false) {
  return {Arg::kIn, size, nullable};
}
constexpr ArgSpec out(int32_t size, bool nullable = false) {
  return {Arg::kOut, size, nullable};
}
constexpr ArgSpec kSetOrNull{Arg::kSigset, kSigsetSize, true};
constexpr int32_t kAction = sizeof(KernelSigaction), kInfo = sizeof(siginfo_t);
constexpr int32_t kStack = sizeof(SignalStack), kVal = sizeof(itimerval), kSpec = sizeof(itimerspec);
constexpr char const* kCpuTimers = "timers on CPU time are looked at once a millisecond and count the monitor's share";

constexpr SyscallRow kRows[] = {
    {SYS_rt_sigaction, "rt_sigaction", {kInt, in(kAction, true), out(kAction, true), kInt}, rt_sigaction},
    {SYS_rt_sigprocmask, "rt_sigprocmask", {kInt, kSetOrNull, out(kSigsetSize, true), kInt}, rt_sigprocmask},
    {SYS_rt_sigpending, "rt_sigpending", {out(from_arg(1)), kInt}, rt_sigpending},
    {SYS_rt_sigtimedwait,
     "rt_sigtimedwait",
     {kSet, out(kInfo, true), in(sizeof(timespec), true), kInt},
     rt_sigtimedwait},
    {SYS_rt_sigqueueinfo, "rt_sigqueueinfo", {kInt, kInt, in(kInfo)}, rt_sigqueueinfo},
    {SYS_rt_tgsigqueueinfo, "rt_tgsigqueueinfo", {kInt, kInt, kInt, in(kInfo)}, rt_tgsigqueueinfo},
    {SYS_rt_sigsuspend, "rt_sigsuspend", {kSet, kInt}, rt_sigsuspend},
    {SYS_rt_sigreturn, "rt_sigreturn", {}, rt_sigreturn},
    {SYS_sigaltstack, "sigaltstack", {in(kStack, true), out(kStack, true)}, sigaltstack_row},
    {SYS_kill, "kill", {kInt, kInt}, kill_row, Support::kPartial, "only the guest's own process exists"},
    {SYS_tkill, "tkill", {kInt, kInt}, tkill_row},
    {SYS_tgkill, "tgkill", {kInt, kInt, kInt}, tgkill_row},
    {SYS_pause, "pause", {}, pause_row},
    {SYS_alarm, "alarm", {kInt}, alarm_row},
    {SYS_setitimer, "setitimer", {kInt, in(kVal, true), out(kVal, true)}, setitimer_row, Support::kPartial, kCpuTimers},
    {SYS_getitimer, "getitimer", {kInt, out(kVal)}, getitimer_row},
    {SYS_timer_create,
     "timer_create",
     {kInt, in(sizeof(KernelSigevent), true), out(4)},
     timer_create_row,
     Support::kPartial,
     kCpuTimers},
    {SYS_timer_settime, "timer_settime", {kInt, kInt, in(kSpec), out(kSpec, true)}, timer_settime_row},
    {SYS_timer_gettime, "timer_gettime", {kInt, out(kSpec)}, timer_gettime_row},
    {SYS_timer_getoverrun, "timer_getoverrun", {kInt}, timer_getoverrun_row},
    {SYS_timer_delete, "timer_delete", {kInt}, timer_delete_row},
};

}  // namespace

std::span<SyscallRow const> signal_rows() {
  return kRows;
}

}  // namespace vmm
