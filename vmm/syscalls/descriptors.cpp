// dup, close, pipes and the descriptors that are no files: eventfd, timerfd, memfd.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"

namespace vmm {

namespace {

int64_t do_close(Thread& thread, SyscallArgs const& args) {
  return thread.fds().close(int_arg(args, 0)) ? 0 : -EBADF;
}

int64_t do_close_range(Thread& thread, SyscallArgs const& args) {
  constexpr unsigned kUnshare = 2, kCloexec = 4;  // CLOSE_RANGE_*
  auto const first = static_cast<unsigned>(args.a[0]);
  auto const last = static_cast<unsigned>(args.a[1]);
  auto const flags = static_cast<unsigned>(args.a[2]);
  // All threads share one table, so there is nothing to unshare it from but themselves.
  if (first > last || (flags & ~kCloexec) != 0) return (flags & kUnshare) != 0 ? -EPERM : -EINVAL;
  thread.fds().close_range(first, last, (flags & kCloexec) != 0);
  return 0;
}

int64_t do_dup(Thread& thread, SyscallArgs const& args) {
  FileRef file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  return thread.fds().install(std::move(file), false);
}

int64_t dup_to(Thread& thread, int from, int to, bool cloexec) {
  FileRef file = thread.fds().get(from);
  if (!file) return -EBADF;
  return thread.fds().install_at(to, std::move(file), cloexec);
}
int64_t do_dup2(Thread& thread, SyscallArgs const& args) {
  int const from = int_arg(args, 0), to = int_arg(args, 1);
  if (from == to) return thread.fds().get(from) ? to : -EBADF;
  return dup_to(thread, from, to, false);
}
int64_t do_dup3(Thread& thread, SyscallArgs const& args) {
  int const from = int_arg(args, 0), to = int_arg(args, 1), flags = int_arg(args, 2);
  if (from == to || (flags & ~O_CLOEXEC) != 0) return -EINVAL;
  return dup_to(thread, from, to, flags != 0);
}

int64_t make_pipe(Thread& thread, GuestAddr to, int flags) {
  int ends[2];
  int64_t const error = host(SYS_pipe2, ends, flags | O_CLOEXEC);
  if (error < 0) return error;
  FileRef in = adopt_host_fd(ends[0], OpenFile::Kind::kPipe);
  FileRef out = adopt_host_fd(ends[1], OpenFile::Kind::kPipe);
  bool const cloexec = (flags & O_CLOEXEC) != 0;
  int numbers[2];
  numbers[0] = thread.fds().install(std::move(in), cloexec);
  if (numbers[0] < 0) return numbers[0];
  numbers[1] = thread.fds().install(std::move(out), cloexec);
  thread.announce_out({to, sizeof numbers});
  int64_t const result = numbers[1] < 0 ? numbers[1] : write_out(thread, to, numbers) ? 0 : -EFAULT;
  if (result != 0) {
    thread.fds().close(numbers[0]);
    if (numbers[1] >= 0) thread.fds().close(numbers[1]);
  }
  return result;
}
int64_t do_pipe(Thread& thread, SyscallArgs const& args) {
  return make_pipe(thread, addr_arg(args, 0), 0);
}
int64_t do_pipe2(Thread& thread, SyscallArgs const& args) {
  int const flags = int_arg(args, 1);
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) != 0) return -EINVAL;
  return make_pipe(thread, addr_arg(args, 0), flags);
}

int64_t do_eventfd(Thread& thread, SyscallArgs const& args) {
  int const flags = args.nr == SYS_eventfd2 ? int_arg(args, 1) : 0;
  return install_host_fd(thread, host(SYS_eventfd2, static_cast<unsigned>(args.a[0]), flags | EFD_CLOEXEC),
                         (flags & EFD_CLOEXEC) != 0, OpenFile::Kind::kEventFd);
}

int64_t do_timerfd_create(Thread& thread, SyscallArgs const& args) {
  int const flags = int_arg(args, 1);
  return install_host_fd(thread, host(SYS_timerfd_create, int_arg(args, 0), flags | TFD_CLOEXEC),
                         (flags & TFD_CLOEXEC) != 0, OpenFile::Kind::kTimerFd);
}

int64_t do_memfd_create(Thread& thread, SyscallArgs const& args) {
  std::string name;
  int const error = thread.memory().read_string(addr_arg(args, 0), name, 250);
  if (error != 0) return error == ENAMETOOLONG ? -EINVAL : -error;
  auto const flags = static_cast<unsigned>(args.a[1]);
  int64_t const fd = host(SYS_memfd_create, name.c_str(), flags | MFD_CLOEXEC);
  if (fd < 0) return fd;
  return thread.fds().install(
      adopt_host_fd(static_cast<int>(fd), OpenFile::Kind::kMemFd, "/memfd:" + name + " (deleted)"),
      (flags & MFD_CLOEXEC) != 0);
}

using namespace arg;
constexpr SyscallRow kRows[] = {
    {SYS_close, "close", {kFd}, do_close},
    {SYS_close_range, "close_range", {kNum, kNum, kNum}, do_close_range, Support::kPartial, "no CLOSE_RANGE_UNSHARE"},
    {SYS_dup, "dup", {kFd}, do_dup},
    {SYS_dup2, "dup2", {kFd, kNum}, do_dup2},
    {SYS_dup3, "dup3", {kFd, kNum, kNum}, do_dup3},
    {SYS_pipe, "pipe", {out(8)}, do_pipe},
    {SYS_pipe2, "pipe2", {out(8), kNum}, do_pipe2},
    {SYS_eventfd, "eventfd", {kNum}, do_eventfd},
    {SYS_eventfd2, "eventfd2", {kNum, kNum}, do_eventfd},
    {SYS_timerfd_create, "timerfd_create", {kNum, kNum}, do_timerfd_create},
    {SYS_timerfd_settime, "timerfd_settime", {kFd, kNum, in(32), out_or_null(32)}, pass_through},
    {SYS_timerfd_gettime, "timerfd_gettime", {kFd, out(32)}, pass_through},
    {SYS_memfd_create, "memfd_create", {kPath, kNum}, do_memfd_create},
};

}  // namespace

std::span<SyscallRow const> descriptor_rows() {
  return kRows;
}

}  // namespace vmm
