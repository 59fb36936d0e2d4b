#include "vmm/exitless_calls.hpp"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>

#include "vmm/syscalls/host.hpp"

namespace vmm {
namespace {

// Not among them: what asks for a clock (a thread's own CPU time would be the poller's; the vDSO answers the others).
constexpr int kCalls[] = {
    SYS_read,        SYS_write,       SYS_pread64,    SYS_readv,      SYS_writev,          SYS_preadv,
    SYS_lseek,       SYS_poll,        SYS_ppoll,      SYS_epoll_wait, SYS_epoll_pwait,     SYS_epoll_ctl,
    SYS_sendto,      SYS_recvfrom,    SYS_sendmsg,    SYS_recvmsg,    SYS_accept,          SYS_accept4,
    SYS_getsockname, SYS_getpeername, SYS_setsockopt, SYS_getsockopt, SYS_shutdown,        SYS_socket,
    SYS_futex,       SYS_getpid,      SYS_gettid,     SYS_getuid,     SYS_geteuid,         SYS_getgid,
    SYS_getegid,     SYS_getppid,     SYS_times,      SYS_fcntl,      SYS_timerfd_settime, SYS_fstat,
};

bool is_nonblocking(uint64_t fd) noexcept {
  int64_t const flags = raw_host(SYS_fcntl, fd, F_GETFL, 0, 0, 0, 0);
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

// Of a file on a disk EAGAIN says that its pages must be fetched first: longer than anybody should spin.
bool is_on_disk(uint64_t fd) noexcept {
  struct stat st {};
  return raw_host(SYS_fstat, fd, host_arg(&st), 0, 0, 0, 0) == 0 && S_ISREG(st.st_mode);
}

// What to make of the result of a call on an fd, made so that it does not wait. `told`: the guest itself said so.
Tried outcome(uint64_t fd, int64_t result, bool told = false) noexcept {
  if (result == -EOPNOTSUPP) return {Tried::kNotHere};
  if (result == -EINTR) return {Tried::kWouldWait};
  if (result != -EAGAIN) return {Tried::kDone, result};
  if (is_on_disk(fd)) return {Tried::kNotHere};
  if (told || is_nonblocking(fd)) return {Tried::kDone, result};
  return {Tried::kWouldWait};
}

// The same of a write: one that waits takes all bytes.
Tried written(uint64_t fd, int64_t result, uint64_t size, bool told = false) noexcept {
  bool const part = result >= 0 && static_cast<uint64_t>(result) < size;
  if (part && !told && (!is_nonblocking(fd) || is_on_disk(fd))) return {Tried::kInPart, result};
  return outcome(fd, result, told);
}

int64_t transfer(long nr, uint64_t fd, iovec const* parts, uint64_t count, int64_t offset) noexcept {
  return raw_host(nr, fd, host_arg(parts), count, static_cast<uint64_t>(offset), 0, RWF_NOWAIT);
}

// A read into `parts`, without waiting for a pipe or a socket. Of a file on a disk RWF_NOWAIT may give less than there
// is: what the page cache holds. The place in the file has moved on by then, so the rest is fetched here.
Tried read_parts(uint64_t fd, iovec const* parts, uint64_t count, int64_t offset) noexcept {
  int64_t const first = transfer(SYS_preadv2, fd, parts, count, offset);
  uint64_t size = 0;
  for (uint64_t i = 0; i < count; ++i) size += parts[i].iov_len;
  if (first <= 0 || static_cast<uint64_t>(first) >= size || !is_on_disk(fd)) return outcome(fd, first);
  auto done = static_cast<uint64_t>(first);
  while (done < size) {
    std::array<iovec, IOV_MAX> rest;
    uint64_t used = 0, skip = done;
    for (uint64_t i = 0; i < count && used < rest.size(); ++i) {
      uint64_t const less = std::min<uint64_t>(skip, parts[i].iov_len);
      skip -= less;
      if (parts[i].iov_len > less)
        rest[used++] = {static_cast<char*>(parts[i].iov_base) + less, parts[i].iov_len - less};
    }
    int64_t const at = offset < 0 ? offset : offset + static_cast<int64_t>(done);
    int64_t const n = raw_host(SYS_preadv2, fd, host_arg(rest.data()), used, static_cast<uint64_t>(at), 0, 0);
    if (n == -EINTR) continue;
    if (n <= 0) break;
    done += static_cast<uint64_t>(n);
  }
  return {Tried::kDone, static_cast<int64_t>(done)};
}

Tried try_futex(uint64_t word, uint64_t op, uint64_t value) noexcept {
  int const command = static_cast<int>(op) & FUTEX_CMD_MASK;
  if (command != FUTEX_WAIT_BITSET && command != FUTEX_WAIT) return {};
  auto const* const now = reinterpret_cast<std::atomic<uint32_t> const*>(word);
  if (now->load(std::memory_order_acquire) == static_cast<uint32_t>(value)) return {Tried::kWouldWait};
  return {Tried::kDone, -EAGAIN};
}

// A wait with a time-out: what is ready at once, unless the guest itself does not want to wait.
Tried waited(int64_t result, timespec const* limit) noexcept {
  bool const no_wait = limit != nullptr && limit->tv_sec == 0 && limit->tv_nsec == 0;
  if (result == -EINTR || (result == 0 && !no_wait)) return {Tried::kWouldWait};
  return {Tried::kDone, result};
}

}  // namespace

PostableCalls exitless_calls() {
  PostableCalls calls;
  for (int const nr : kCalls) calls.set(static_cast<size_t>(nr));
  return calls;
}

bool exitless_now(SyscallArgs const& call) noexcept {
  if (call.nr == SYS_epoll_pwait) return call.a[4] == 0;
  if (call.nr == SYS_ppoll) return call.a[3] == 0;
  if (call.nr == SYS_fcntl) return call.a[1] == F_GETFL || call.a[1] == F_SETFL || call.a[1] == F_GETFD;
  return true;
}

Tried try_host_call(long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) noexcept {
  timespec none{};
  iovec const one{reinterpret_cast<void*>(a1), a2};
  auto const* const parts = reinterpret_cast<iovec const*>(a1);
  uint64_t const flags = nr == SYS_sendto || nr == SYS_recvfrom ? a3 : a2;
  bool const told = (flags & MSG_DONTWAIT) != 0;
  switch (nr) {
    case SYS_read:
      // Mostly a socket, which needs no look at what kind of file it is. No bytes are none even where there are some.
      if (int64_t const n = a2 == 0 ? -ENOTSOCK : raw_host(SYS_recvfrom, a0, a1, a2, MSG_DONTWAIT, 0, 0);
          n != -ENOTSOCK) {
        if (n != -EAGAIN && n != -EINTR) return {Tried::kDone, n};
        return n == -EAGAIN && is_nonblocking(a0) ? Tried{Tried::kDone, n} : Tried{Tried::kWouldWait};
      }
      return read_parts(a0, &one, 1, -1);
    case SYS_pread64:
      return read_parts(a0, &one, 1, static_cast<int64_t>(a3));
    case SYS_readv:
      return read_parts(a0, parts, a2, -1);
    case SYS_preadv:
      return read_parts(a0, parts, a2, static_cast<int64_t>(a3));
    case SYS_write:
      return written(a0, transfer(SYS_pwritev2, a0, &one, 1, -1), a2);
    case SYS_writev:
      if (!is_nonblocking(a0)) return {};
      return outcome(a0, raw_host(nr, a0, a1, a2, 0, 0, 0));
    case SYS_sendto:
      return written(a0, raw_host(nr, a0, a1, a2, flags | MSG_DONTWAIT, a4, a5), a2, told);
    case SYS_sendmsg:
      if (!told && !is_nonblocking(a0)) return {};
      return outcome(a0, raw_host(nr, a0, a1, flags | MSG_DONTWAIT, 0, 0, 0), told);
    case SYS_recvfrom:
      if ((flags & MSG_WAITALL) != 0) return {};
      return outcome(a0, raw_host(nr, a0, a1, a2, flags | MSG_DONTWAIT, a4, a5), told);
    case SYS_recvmsg:
      if ((flags & MSG_WAITALL) != 0) return {};
      return outcome(a0, raw_host(nr, a0, a1, flags | MSG_DONTWAIT, 0, 0, 0), told);
    case SYS_accept4:
      if (!is_nonblocking(a0)) return {};
      return {Tried::kDone, raw_host(nr, a0, a1, a2, a3, 0, 0)};
    case SYS_ppoll:
      return waited(raw_host(nr, a0, a1, host_arg(&none), 0, a4, 0), reinterpret_cast<timespec const*>(a2));
    case SYS_epoll_pwait2:
      return waited(raw_host(nr, a0, a1, a2, host_arg(&none), 0, a5), reinterpret_cast<timespec const*>(a3));
    case SYS_futex:
      return try_futex(a0, a1, a2);
    default:
      return {};
  }
}

}  // namespace vmm
