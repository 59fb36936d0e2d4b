// Limits, usage and facts about the machine.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/rlimits.hpp"

namespace vmm {

namespace {

struct Limit {
  uint64_t soft = 0, hard = 0;
};

int64_t do_prlimit64(Thread& thread, SyscallArgs const& args) {
  int const pid = int_arg(args, 0);
  if (pid != 0 && pid != Process::pid()) return -ESRCH;
  auto const resource = static_cast<unsigned>(args.a[1]);
  GuestAddr const from = addr_arg(args, 2), to = addr_arg(args, 3);
  Limit wanted, old;
  if (from && !thread.memory().read(from, wanted)) return -EFAULT;
  if (int64_t const e = get_rlimit(thread, resource, old.soft, old.hard); e != 0) return e;
  if (from) {
    if (int64_t const e = set_rlimit(thread, resource, wanted.soft, wanted.hard); e != 0) return e;
  }
  return !to || write_out(thread, to, old) ? 0 : -EFAULT;
}
int64_t do_getrlimit(Thread& thread, SyscallArgs const& args) {
  Limit limit;
  int64_t const e = get_rlimit(thread, static_cast<unsigned>(args.a[0]), limit.soft, limit.hard);
  if (e != 0) return e;
  return write_out(thread, addr_arg(args, 1), limit) ? 0 : -EFAULT;
}
int64_t do_setrlimit(Thread& thread, SyscallArgs const& args) {
  Limit limit;
  if (!thread.memory().read(addr_arg(args, 1), limit)) return -EFAULT;
  return set_rlimit(thread, static_cast<unsigned>(args.a[0]), limit.soft, limit.hard);
}

int64_t do_getrusage(Thread& thread, SyscallArgs const& args) {
  int const who = int_arg(args, 0);
  if (who != RUSAGE_SELF && who != RUSAGE_THREAD && who != RUSAGE_CHILDREN) return -EINVAL;
  rusage usage{};  // there are no children
  if (who != RUSAGE_CHILDREN) host(SYS_getrusage, who, &usage);
  return write_out(thread, addr_arg(args, 1), usage) ? 0 : -EFAULT;
}

// nice values belong to host threads, each of which runs one guest thread.
int64_t do_getpriority(Thread& thread, SyscallArgs const& args) {
  int const who = int_arg(args, 1);
  bool const own = who == 0 || who == Process::pid() || who == thread.tid();
  if (int_arg(args, 0) != PRIO_PROCESS) return int_arg(args, 0) == PRIO_PGRP ? 20 : -EINVAL;
  return own ? host(SYS_getpriority, PRIO_PROCESS, 0) : -ESRCH;
}
int64_t do_setpriority(Thread& thread, SyscallArgs const& args) {
  int const who = int_arg(args, 1);
  bool const own = who == 0 || who == Process::pid() || who == thread.tid();
  if (int_arg(args, 0) != PRIO_PROCESS || !own) return -ESRCH;
  return host(SYS_setpriority, PRIO_PROCESS, 0, int_arg(args, 2));
}

int64_t do_rr_interval(Thread& thread, SyscallArgs const& args) {
  int const who = int_arg(args, 0);
  if (who < 0) return -EINVAL;
  if (who != 0 && who != Process::pid() && who != thread.tid()) return -ESRCH;
  timespec interval{};
  int64_t const result = host(SYS_sched_rr_get_interval, 0, &interval);
  if (result < 0) return result;
  return write_out(thread, addr_arg(args, 1), interval) ? 0 : -EFAULT;
}

int64_t do_getcpu(Thread& thread, SyscallArgs const& args) {
  uint32_t cpu = 0, node = 0;
  host(SYS_getcpu, &cpu, &node, nullptr);
  if (addr_arg(args, 0) && !write_out(thread, addr_arg(args, 0), cpu)) return -EFAULT;
  if (addr_arg(args, 1) && !write_out(thread, addr_arg(args, 1), node)) return -EFAULT;
  return 0;
}

int64_t do_membarrier(Thread&, SyscallArgs const& args) {
  constexpr int kQuery = 0;
  return int_arg(args, 0) == kQuery ? 0 : -EINVAL;  // supports no command
}

using namespace arg;
constexpr SyscallRow kRows[] = {
    {SYS_prlimit64,
     "prlimit64",
     {kNum, kNum, in_or_null(16), out_or_null(16)},
     do_prlimit64,
     Support::kPartial,
     "stored; only RLIMIT_NOFILE has an effect"},
    {SYS_getrlimit, "getrlimit", {kNum, out(16)}, do_getrlimit},
    {SYS_setrlimit,
     "setrlimit",
     {kNum, in(16)},
     do_setrlimit,
     Support::kPartial,
     "stored; only RLIMIT_NOFILE has an effect"},
    {SYS_getrusage,
     "getrusage",
     {kNum, out(sizeof(rusage))},
     do_getrusage,
     Support::kFull,
     "with the monitor's own share"},
    {SYS_uname, "uname", {out(sizeof(utsname))}, pass_through},
    {SYS_sysinfo, "sysinfo", {out(sizeof(struct sysinfo))}, pass_through},
    {SYS_getrandom, "getrandom", {out(from_arg(1)), kNum, kNum}, pass_through, Support::kFull, "", true},
    {SYS_getpriority, "getpriority", {kNum, kNum}, do_getpriority, Support::kPartial, "the calling thread's"},
    {SYS_setpriority, "setpriority", {kNum, kNum, kNum}, do_setpriority, Support::kPartial, "the calling thread's"},
    {SYS_sched_rr_get_interval, "sched_rr_get_interval", {kNum, out(16)}, do_rr_interval},
    {SYS_getcpu, "getcpu", {out_or_null(4), out_or_null(4)}, do_getcpu},
    {SYS_membarrier,
     "membarrier",
     {kNum, kNum, kNum},
     do_membarrier,
     Support::kPartial,
     "says that it supports no command"},
};

}  // namespace

std::span<SyscallRow const> limit_rows() {
  return kRows;
}

}  // namespace vmm
