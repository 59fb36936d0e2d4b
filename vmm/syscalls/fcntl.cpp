// fcntl: a list of allowed commands; flock.
#include <fcntl.h>
#include <sys/syscall.h>

#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/signalfd.hpp"

namespace vmm {

namespace {

int64_t record_lock(Thread& thread, OpenFile& file, int command, GuestAddr at) {
  struct flock lock {};
  if (!thread.memory().read(at, lock)) return -EFAULT;
  bool const query = command == F_GETLK || command == F_OFD_GETLK;
  bool const waits = command == F_SETLKW || command == F_OFD_SETLKW;
  if (command == F_SETLK || command == F_SETLKW) file.record_locks = true;
  if (query) thread.announce_out({at, sizeof lock});
  int64_t const result = waits ? host_blocking(thread, SYS_fcntl, file.host_fd(), command, &lock)
                               : host(SYS_fcntl, file.host_fd(), command, &lock);
  if (result == 0 && query && !write_out(thread, at, lock)) return -EFAULT;
  return result;
}

int64_t do_fcntl(Thread& thread, SyscallArgs const& args) {
  int const fd = int_arg(args, 0);
  int const command = int_arg(args, 1);
  uint64_t const value = args.a[2];
  FdTable& fds = thread.fds();
  FileRef const file = fds.get(fd);
  if (!file) return -EBADF;
  switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
      if (static_cast<int>(value) < 0 || value >= fds.limit()) return -EINVAL;
      return fds.install(file, command == F_DUPFD_CLOEXEC, static_cast<int>(value));
    case F_GETFD:
      return fds.cloexec(fd) ? FD_CLOEXEC : 0;
    case F_SETFD:
      fds.set_cloexec(fd, (value & FD_CLOEXEC) != 0);
      return 0;
    case F_GETFL:
      if (auto const* const signals = dynamic_cast<SignalFd*>(file.get())) {
        return O_RDWR | (signals->nonblock ? O_NONBLOCK : 0);
      }
      return host(SYS_fcntl, file->host_fd(), F_GETFL);
    case F_SETFL:
      if (auto* const signals = dynamic_cast<SignalFd*>(file.get())) {
        signals->nonblock = (value & O_NONBLOCK) != 0;
        return 0;
      }
      // O_ASYNC would send SIGIO to the monitor.
      return host(SYS_fcntl, file->host_fd(), F_SETFL, value & ~static_cast<uint64_t>(O_ASYNC));
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      return record_lock(thread, *file, command, GuestAddr(value));
    case F_GETOWN:
      return 0;
    case F_SETOWN:
      return 0;  // without O_ASYNC there is nothing to send
    case F_GETPIPE_SZ:
    case F_SETPIPE_SZ:
    case F_GET_SEALS:
    case F_ADD_SEALS:
      return host(SYS_fcntl, file->host_fd(), command, value);
    case F_GET_RW_HINT:
    case F_SET_RW_HINT:
    case F_GET_FILE_RW_HINT:
    case F_SET_FILE_RW_HINT: {
      uint64_t hint = 0;
      bool const set = command == F_SET_RW_HINT || command == F_SET_FILE_RW_HINT;
      if (set && !thread.memory().read(GuestAddr(value), hint)) return -EFAULT;
      int64_t const result = host(SYS_fcntl, file->host_fd(), command, &hint);
      if (result == 0 && !set && !write_out(thread, GuestAddr(value), hint)) return -EFAULT;
      return result;
    }
    default:
      return -EINVAL;
  }
}

using namespace arg;
constexpr SyscallRow kRows[] = {
    {SYS_fcntl,
     "fcntl",
     {kFd, kNum, kAddr},
     do_fcntl,
     Support::kPartial,
     "no leases, directory notification or SIGIO",
     true},
    {SYS_flock, "flock", {kFd, kNum}, pass_through, Support::kFull, "", true},
};

}  // namespace

std::span<SyscallRow const> fcntl_rows() {
  return kRows;
}

}  // namespace vmm
