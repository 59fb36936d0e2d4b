// Threads: clone for pthreads, their ends, ids, scheduling; fork and execve are refused (one process per VM).
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/guest_thread.hpp"
#include "vmm/syscalls/futex.hpp"
#include "vmm/syscalls/host.hpp"

namespace vmm {
namespace {

constexpr int kArchSetGs = 0x1001, kArchSetFs = 0x1002, kArchGetFs = 0x1003, kArchGetGs = 0x1004;
constexpr uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
constexpr uint64_t kKnownFlags = kThreadFlags | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                 CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | CLONE_DETACHED;

GuestThread& own(Thread& t) {
  return static_cast<GuestThread&>(t);
}

int64_t sys_clone(Thread& t, SyscallArgs const& args) {
  auto const [flags, stack, parent_tid, child_tid, tls, unused] = args.a;
  if ((flags & kThreadFlags) != kThreadFlags) return -EPERM;
  if (flags & ~kKnownFlags & ~uint64_t{0xff}) return -EINVAL;
  if (stack == 0) return -EINVAL;
  std::byte xsave[4096];
  if (!t.get_xsave(xsave)) return -EAGAIN;
  Registers child = t.regs();
  child.gs_base = t.gs_base();
  child.rax = 0;
  child.rsp = stack;
  if (flags & CLONE_SETTLS) child.fs_base = tls;
  int32_t probe = 0;
  GuestAddr const parent_word(parent_tid);
  if ((flags & CLONE_PARENT_SETTID) && !t.memory().read(parent_word, probe)) return -EFAULT;
  int64_t const tid = t.process().start_thread(
      child, xsave, t.signals().blocked.load(), GuestAddr(flags & CLONE_CHILD_CLEARTID ? child_tid : 0),
      GuestAddr(flags & CLONE_CHILD_SETTID ? child_tid : 0), flags & CLONE_PARENT_SETTID ? parent_word : GuestAddr());
  return tid;
}

int64_t sys_clone3(Thread&, SyscallArgs const&) {
  return -ENOSYS;
}  // libc then uses clone
int64_t sys_rseq(Thread&, SyscallArgs const&) {
  return -ENOSYS;
}  // libc then does without

int64_t sys_exit(Thread& t, SyscallArgs const& args) {
  // The last thread's status is the process's.
  if (t.process().thread_count() == 1) t.process().exit_group(static_cast<int>(args.a[0] & 0xff));
  own(t).finish();
  return 0;
}

int64_t sys_exit_group(Thread& t, SyscallArgs const& args) {
  t.process().exit_group(static_cast<int>(args.a[0] & 0xff));
  return 0;
}

int64_t sys_set_tid_address(Thread& t, SyscallArgs const& args) {
  own(t).clear_child_tid = GuestAddr(args.a[0]);
  return t.tid();
}

int64_t sys_set_robust_list(Thread& t, SyscallArgs const& args) {
  if (args.a[1] != 24) return -EINVAL;  // sizeof(struct robust_list_head)
  own(t).robust_list = GuestAddr(args.a[0]);
  return 0;
}

int64_t sys_get_robust_list(Thread& t, SyscallArgs const& args) {
  int const tid = static_cast<int>(args.a[0]);
  uint64_t head = own(t).robust_list.value;
  if (tid != 0 && tid != t.tid() &&
      !t.process().with_thread(tid, [&](Thread& other) { head = own(other).robust_list.value; })) {
    return -ESRCH;
  }
  uint64_t const size = 24;
  return write_out(t, GuestAddr(args.a[1]), head) && write_out(t, GuestAddr(args.a[2]), size) ? 0 : -EFAULT;
}

int64_t sys_arch_prctl(Thread& t, SyscallArgs const& args) {
  constexpr uint64_t kUserEnd = 1ULL << 47;
  switch (static_cast<int>(args.a[0])) {
    case kArchSetFs:
      if (args.a[1] >= kUserEnd) return -EPERM;
      t.regs().fs_base = args.a[1];
      return 0;
    case kArchSetGs:
      if (args.a[1] >= kUserEnd) return -EPERM;
      t.set_gs_base(args.a[1]);
      return 0;
    case kArchGetFs:
      return write_out(t, GuestAddr(args.a[1]), t.regs().fs_base) ? 0 : -EFAULT;
    case kArchGetGs:
      return write_out(t, GuestAddr(args.a[1]), t.gs_base()) ? 0 : -EFAULT;
    default:
      return -EINVAL;
  }
}

int64_t sys_gettid(Thread& t, SyscallArgs const&) {
  return t.tid();
}

int64_t sys_sched_yield(Thread&, SyscallArgs const&) {
  sched_yield();
  return 0;
}

// The host thread behind a virtual id (0: the caller, or the pid's main thread); 0: no such thread.
// The host thread of a thread of the guest, or the call's result: -ESRCH, or kRestartSys when it is about to start.
int64_t host_of(Thread& t, uint64_t number) {
  auto const tid = static_cast<int>(number);
  if (tid == 0 || tid == t.tid()) return t.host_tid();
  int64_t host = -ESRCH;
  t.process().with_thread(tid, [&](Thread& other) { host = other.host_tid(); });
  if (host != 0) return host;
  ::sched_yield();
  return kRestartSys;
}

int64_t result_of(long r) {
  return r < 0 ? -errno : r;
}

int64_t sys_sched_getaffinity(Thread& t, SyscallArgs const& args) {
  int64_t const host = host_of(t, args.a[0]);
  if (host < 0) return host;
  uint64_t const size = std::min<uint64_t>(args.a[1], 8192);
  void* out = t.memory().buffer(GuestAddr(args.a[2]), size, Access::kWrite);
  if (out == nullptr) return -EFAULT;
  t.announce_out({GuestAddr(args.a[2]), size});
  return t.process().placement().get(static_cast<int>(host), size, out);
}

int64_t sys_sched_setaffinity(Thread& t, SyscallArgs const& args) {
  int64_t const host = host_of(t, args.a[0]);
  if (host < 0) return host;
  uint64_t const size = std::min<uint64_t>(args.a[1], 8192);
  void* in = t.memory().buffer(GuestAddr(args.a[2]), size, Access::kRead);
  return in == nullptr ? -EFAULT : t.process().placement().set(static_cast<int>(host), size, in);
}

int64_t sys_sched_getscheduler(Thread& t, SyscallArgs const& args) {
  int64_t const host = host_of(t, args.a[0]);
  return host < 0 ? host : SCHED_OTHER;
}

int64_t sys_sched_getparam(Thread& t, SyscallArgs const& args) {
  if (int64_t const host = host_of(t, args.a[0]); host < 0) return host;
  return write_out(t, GuestAddr(args.a[1]), int32_t{0}) ? 0 : -EFAULT;
}

int64_t sys_sched_setscheduler(Thread& t, SyscallArgs const& args) {
  if (int64_t const host = host_of(t, args.a[0]); host < 0) return host;
  auto const policy = static_cast<int>(args.a[1]);
  int32_t priority = 0;
  if (!t.memory().read(GuestAddr(args.a[2]), priority)) return -EFAULT;
  return policy == SCHED_OTHER || policy == SCHED_BATCH || policy == SCHED_IDLE ? 0 : -EPERM;
}

int64_t sys_sched_setparam(Thread& t, SyscallArgs const& args) {
  int32_t priority = 0;
  if (!t.memory().read(GuestAddr(args.a[1]), priority)) return -EFAULT;
  return priority == 0 ? 0 : -EINVAL;
}

int64_t sys_sched_priority_range(Thread&, SyscallArgs const& args) {
  return result_of(syscall(static_cast<long>(args.nr), static_cast<int>(args.a[0])));
}

constexpr ArgSpec kNum{Arg::kInt}, kWord{Arg::kFutex, 4}, kAddr{Arg::kAddr};
constexpr ArgSpec kOut4{Arg::kOut, 4}, kOut8{Arg::kOut, 8};
constexpr char const* kOneProcess = "one process in a VM";
constexpr SyscallRow kRows[] = {
    {SYS_clone,
     "clone",
     {{kNum, kAddr, {Arg::kOut, 4, true}, {Arg::kOut, 4, true}, kAddr}},
     sys_clone,
     Support::kPartial,
     "threads only; fork is EPERM"},
    {SYS_clone3, "clone3", {{kAddr, kNum}}, sys_clone3, Support::kDenied, "ENOSYS: libc falls back to clone"},
    {SYS_fork, "fork", {}, deny, Support::kDenied, kOneProcess},
    {SYS_vfork, "vfork", {}, deny, Support::kDenied, kOneProcess},
    {SYS_execve, "execve", {{kAddr, kAddr, kAddr}}, deny, Support::kDenied, kOneProcess},
    {SYS_execveat, "execveat", {{kNum, kAddr, kAddr, kAddr, kNum}}, deny, Support::kDenied, kOneProcess},
    {SYS_exit, "exit", {{kNum}}, sys_exit},
    {SYS_exit_group, "exit_group", {{kNum}}, sys_exit_group},
    {SYS_futex,
     "futex",
     {{kWord, kNum, kNum, kAddr, kAddr, kNum}},
     sys_futex,
     Support::kPartial,
     "no priority inheritance",
     true},
    {SYS_set_tid_address, "set_tid_address", {{kAddr}}, sys_set_tid_address},
    {SYS_set_robust_list,
     "set_robust_list",
     {{kAddr, kNum}},
     sys_set_robust_list,
     Support::kFull,
     "the monitor walks the list with checked reads"},
    {SYS_get_robust_list, "get_robust_list", {{kNum, kOut8, kOut8}}, sys_get_robust_list},
    {SYS_arch_prctl, "arch_prctl", {{kNum, kAddr}}, sys_arch_prctl, Support::kPartial, "FS and GS bases"},
    {SYS_gettid, "gettid", {}, sys_gettid},
    {SYS_rseq, "rseq", {{kAddr, kNum, kNum, kNum}}, sys_rseq, Support::kDenied, "ENOSYS: libc does without"},
    {SYS_sched_yield, "sched_yield", {}, sys_sched_yield},
    {SYS_sched_getaffinity, "sched_getaffinity", {{kNum, kNum, {Arg::kOut, from_arg(1)}}}, sys_sched_getaffinity},
    {SYS_sched_setaffinity, "sched_setaffinity", {{kNum, kNum, {Arg::kIn, from_arg(1)}}}, sys_sched_setaffinity},
    {SYS_sched_getscheduler, "sched_getscheduler", {{kNum}}, sys_sched_getscheduler},
    {SYS_sched_setscheduler,
     "sched_setscheduler",
     {{kNum, kNum, {Arg::kIn, 4}}},
     sys_sched_setscheduler,
     Support::kPartial,
     "SCHED_OTHER and its kind"},
    {SYS_sched_getparam, "sched_getparam", {{kNum, kOut4}}, sys_sched_getparam},
    {SYS_sched_setparam,
     "sched_setparam",
     {{kNum, {Arg::kIn, 4}}},
     sys_sched_setparam,
     Support::kPartial,
     "priority 0"},
    {SYS_sched_get_priority_max, "sched_get_priority_max", {{kNum}}, sys_sched_priority_range},
    {SYS_sched_get_priority_min, "sched_get_priority_min", {{kNum}}, sys_sched_priority_range},
};

}  // namespace

std::span<SyscallRow const> thread_rows() {
  return kRows;
}

}  // namespace vmm
