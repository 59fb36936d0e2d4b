// epoll. The host kernel keeps the guest's event data as they are; only fds are translated. A file
// leaves a set when its last virtual number is closed, since then its host fds are.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <climits>

#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/wait_mask.hpp"
#include "vmm/syscalls/wait_time.hpp"

namespace vmm {

namespace {

int64_t do_create(Thread& thread, SyscallArgs const& args) {
  int flags = 0;
  if (args.nr == SYS_epoll_create) {
    if (int_arg(args, 0) <= 0) return -EINVAL;
  } else {
    flags = int_arg(args, 0);
  }
  return install_host_fd(thread, host(SYS_epoll_create1, flags | EPOLL_CLOEXEC), (flags & EPOLL_CLOEXEC) != 0,
                         OpenFile::Kind::kEpoll);
}

int64_t do_ctl(Thread& thread, SyscallArgs const& args) {
  FileRef const set = thread.fds().get(int_arg(args, 0));
  FileRef const file = thread.fds().get(int_arg(args, 2));
  if (!set || !file) return -EBADF;
  epoll_event event{};
  bool const reads = int_arg(args, 1) != EPOLL_CTL_DEL;
  if (reads && !thread.memory().read(addr_arg(args, 3), event)) return -EFAULT;
  int const fd = file->epoll_fd(int_arg(args, 2));
  if (fd < 0) return fd;
  event.events = file->asked_for(thread, event.events);
  return host(SYS_epoll_ctl, set->host_fd(), int_arg(args, 1), fd, &event);
}

int64_t wait_for(Thread& thread, SyscallArgs const& args, WaitTime& time, WaitMask& mask) {
  FileRef const set = thread.fds().get(int_arg(args, 0));
  if (!set) return -EBADF;
  int const count = int_arg(args, 2);
  if (count <= 0 || count > INT_MAX / static_cast<int>(sizeof(epoll_event))) return -EINVAL;
  GuestAddr const to = addr_arg(args, 1);
  uint64_t const bytes = static_cast<uint64_t>(count) * sizeof(epoll_event);
  void* const events = thread.memory().buffer(to, bytes, Access::kWrite);
  if (events == nullptr) return -EFAULT;
  thread.announce_out({to, bytes});
  mask.apply(thread);
  return mask.end(thread, time.restart(host_blocking(thread, SYS_epoll_pwait2, set->host_fd(), events, count,
                                                     time.pointer(), nullptr, 8)));
}

int64_t do_wait(Thread& thread, SyscallArgs const& args) {
  WaitMask mask;
  if (args.nr == SYS_epoll_pwait) {
    if (int64_t const e = mask.load(thread, addr_arg(args, 4), args.a[5]); e != 0) return e;
  }
  int const ms = int_arg(args, 3);
  WaitTime time(thread, ms < 0 ? -1 : int64_t{ms} * 1'000'000);
  return wait_for(thread, args, time, mask);
}

int64_t do_pwait2(Thread& thread, SyscallArgs const& args) {
  int64_t ns = -1;
  if (GuestAddr const at = addr_arg(args, 3)) {
    timespec value{};
    if (!thread.memory().read(at, value)) return -EFAULT;
    if (ns = checked_ns(value); ns < 0) return -EINVAL;
  }
  WaitMask mask;
  if (int64_t const e = mask.load(thread, addr_arg(args, 4), args.a[5]); e != 0) return e;
  WaitTime time(thread, ns);
  return wait_for(thread, args, time, mask);
}

using namespace arg;
constexpr ArgSpec kEvents{Arg::kOut, sizeof(epoll_event)};  // the least: one event
constexpr ArgSpec kMask{Arg::kSigset, 8, true};
constexpr SyscallRow kRows[] = {
    {SYS_epoll_create, "epoll_create", {kNum}, do_create},
    {SYS_epoll_create1, "epoll_create1", {kNum}, do_create},
    {SYS_epoll_ctl, "epoll_ctl", {kFd, kNum, kFd, in_or_null(sizeof(epoll_event))}, do_ctl},
    {SYS_epoll_wait, "epoll_wait", {kFd, kEvents, kNum, kNum}, do_wait, Support::kFull, "", true},
    {SYS_epoll_pwait, "epoll_pwait", {kFd, kEvents, kNum, kNum, kMask, kNum}, do_wait, Support::kFull, "", true},
    {SYS_epoll_pwait2,
     "epoll_pwait2",
     {kFd, kEvents, kNum, in_or_null(16), kMask, kNum},
     do_pwait2,
     Support::kFull,
     "",
     true},
};

}  // namespace

std::span<SyscallRow const> epoll_rows() {
  return kRows;
}

}  // namespace vmm
