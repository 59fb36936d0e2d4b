// Sockets: making, naming, connecting them.
#include <fcntl.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "vmm/file_journal.hpp"
#include "vmm/process.hpp"
#include "vmm/socket_relay.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/path.hpp"
#include "vmm/syscalls/socket_address.hpp"

namespace vmm {

int64_t read_address(Thread& thread, GuestAddr at, uint64_t size, SocketAddress& address) {
  address.size = 0;
  if (static_cast<int>(size) < 0 || size > sizeof address.bytes) return -EINVAL;
  if (size != 0 && !thread.memory().read(at, &address.bytes, size)) return -EFAULT;
  address.size = static_cast<socklen_t>(size);
  return 0;
}

int64_t write_address(Thread& thread, GuestAddr at, GuestAddr size_at, SocketAddress const& address) {
  if (!at) return 0;
  int room = 0;
  if (!thread.memory().read(size_at, room)) return -EFAULT;
  if (room < 0) return -EINVAL;
  uint64_t const n =
      std::min<uint64_t>(static_cast<uint64_t>(room), std::min<uint64_t>(address.size, sizeof address.bytes));
  if (n != 0 && !write_out(thread, at, &address.bytes, n)) return -EFAULT;
  return write_out(thread, size_at, address.size) ? 0 : -EFAULT;
}

// The file that a Unix address names; empty: none.
static std::string unix_path(SocketAddress const& address) {
  if (address.bytes.ss_family != AF_UNIX || address.size <= offsetof(sockaddr_un, sun_path)) return {};
  auto const* const name = reinterpret_cast<char const*>(&address.bytes) + offsetof(sockaddr_un, sun_path);
  return {name, strnlen(name, address.size - offsetof(sockaddr_un, sun_path))};  // nothing of an abstract one
}

int64_t check_unix_path(Thread& thread, SocketAddress const& address, bool make) {
  std::string const path = unix_path(address);
  if (path.empty()) return 0;
  if (make) return resolve_parent(thread, AT_FDCWD, path).error;
  Target const target = resolve(thread, AT_FDCWD, path, true);
  return target.error != 0 ? target.error : target.node || target.read_only ? -ECONNREFUSED : 0;
}

namespace {

int64_t check_kind(int domain, int type, int protocol) {
  switch (domain) {
    case AF_UNIX:
    case AF_INET:
    case AF_INET6:
      break;
    case AF_NETLINK:
      if (protocol != NETLINK_ROUTE) return -EPROTONOSUPPORT;
      break;
    default:
      return -EAFNOSUPPORT;
  }
  constexpr int kTypeMask = 0xf;
  switch (type & kTypeMask) {
    case SOCK_STREAM:
    case SOCK_DGRAM:
    case SOCK_SEQPACKET:
      return 0;
    case SOCK_RAW:
      return domain == AF_NETLINK ? 0 : -EPERM;
    default:
      return -ESOCKTNOSUPPORT;
  }
}

int64_t do_socket(Thread& thread, SyscallArgs const& args) {
  int const type = int_arg(args, 1);
  if (int64_t const e = check_kind(int_arg(args, 0), type, int_arg(args, 2)); e != 0) return e;
  if (thread.fds().full()) return -EMFILE;
  return install_host_fd(thread, host(SYS_socket, int_arg(args, 0), type | SOCK_CLOEXEC, int_arg(args, 2)),
                         (type & SOCK_CLOEXEC) != 0, OpenFile::Kind::kSocket);
}

int64_t do_socketpair(Thread& thread, SyscallArgs const& args) {
  int const type = int_arg(args, 1);
  if (int64_t const e = check_kind(int_arg(args, 0), type, int_arg(args, 2)); e != 0) return e;
  int ends[2];
  int64_t const error = host(SYS_socketpair, int_arg(args, 0), type | SOCK_CLOEXEC, int_arg(args, 2), ends);
  if (error < 0) return error;
  FileRef const first = adopt_host_fd(ends[0], OpenFile::Kind::kSocket);
  FileRef const second = adopt_host_fd(ends[1], OpenFile::Kind::kSocket);
  bool const cloexec = (type & SOCK_CLOEXEC) != 0;
  int numbers[2];
  numbers[0] = thread.fds().install(first, cloexec);
  if (numbers[0] < 0) return numbers[0];
  numbers[1] = thread.fds().install(second, cloexec);
  thread.announce_out({addr_arg(args, 3), sizeof numbers});
  if (numbers[1] >= 0 && write_out(thread, addr_arg(args, 3), numbers)) return 0;
  thread.fds().close(numbers[0]);
  if (numbers[1] < 0) return numbers[1];
  thread.fds().close(numbers[1]);
  return -EFAULT;
}

// The relay, for a TCP socket; null: nobody's.
SocketRelay* relay_of(Thread& thread, OpenFile const& file) {
  SocketRelay* const relay = thread.process().socket_relay;
  if (relay == nullptr) return nullptr;
  int domain = 0, type = 0;
  socklen_t size = sizeof domain;
  if (getsockopt(file.host_fd(), SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0) return nullptr;
  size = sizeof type;
  if (getsockopt(file.host_fd(), SOL_SOCKET, SO_TYPE, &type, &size) != 0) return nullptr;
  return (domain == AF_INET || domain == AF_INET6) && type == SOCK_STREAM ? relay : nullptr;
}

int64_t do_bind(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  SocketAddress address;
  int64_t error = read_address(thread, addr_arg(args, 1), static_cast<uint32_t>(args.a[2]), address);
  if (error == 0) error = check_unix_path(thread, address, true);
  if (error != 0) return error;
  if (SocketRelay* const relay = relay_of(thread, *file); relay != nullptr)
    return relay->bind(file->host_fd(), address);
  auto const call = [&] { return host(SYS_bind, file->host_fd(), &address.bytes, address.size); };
  std::string const path = unix_path(address);
  if (path.empty()) return call();
  return FileChangeGuard(thread, {.kind = FileChange::Kind::kCreate, .fd = AT_FDCWD, .name = path.c_str()}).made(call);
}

int64_t do_listen(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  int64_t const result = host(SYS_listen, file->host_fd(), int_arg(args, 1));
  if (result != 0) return result;
  SocketRelay* const relay = relay_of(thread, *file);
  return relay == nullptr ? 0 : relay->listening(file->host_fd(), int_arg(args, 1));
}

int64_t do_connect(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  SocketAddress address;
  int64_t error = read_address(thread, addr_arg(args, 1), static_cast<uint32_t>(args.a[2]), address);
  if (error == 0) error = check_unix_path(thread, address, false);
  if (error != 0) return error;
  int64_t const result = host_blocking(thread, SYS_connect, file->host_fd(), &address.bytes, address.size);
  return file->socket_timeout ? restart_as(result, kRestartNoHand) : result;
}

int64_t accept_on(Thread& thread, SyscallArgs const& args, int flags) {
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != 0) return -EINVAL;
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  GuestAddr const at = addr_arg(args, 1), size_at = addr_arg(args, 2);
  // Checked before a connection is taken off the queue.
  int room = 0;
  if (at && (!thread.memory().read(size_at, room) || room < 0 ||
             !thread.memory().contains(at, static_cast<uint64_t>(room)))) {
    return room < 0 ? -EINVAL : -EFAULT;
  }
  if (thread.fds().full()) return -EMFILE;
  thread.announce_out({at, at ? static_cast<uint64_t>(room) : 0});
  thread.announce_out({size_at, at ? 4U : 0U});
  SocketRelay* const relay = relay_of(thread, *file);
  SocketAddress address;
  FileRef connection;
  for (;;) {
    address.size = sizeof address.bytes;
    int64_t const fd =
        host_blocking(thread, SYS_accept4, file->host_fd(), &address.bytes, &address.size, flags | SOCK_CLOEXEC);
    if (fd < 0) return file->socket_timeout ? restart_as(fd, kRestartNoHand) : fd;
    connection = adopt_host_fd(static_cast<int>(fd), OpenFile::Kind::kSocket);
    if (relay == nullptr || relay->admit(connection->host_fd(), address)) break;
  }
  connection->accepted = true;
  if (int64_t const error = write_address(thread, at, size_at, address); error != 0) return error;
  return thread.fds().install(connection, (flags & SOCK_CLOEXEC) != 0);
}
int64_t do_accept(Thread& thread, SyscallArgs const& args) {
  return accept_on(thread, args, 0);
}
int64_t do_accept4(Thread& thread, SyscallArgs const& args) {
  return accept_on(thread, args, int_arg(args, 3));
}

int64_t do_name(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  SocketAddress address;
  address.size = sizeof address.bytes;
  int64_t const result = host(static_cast<long>(args.nr), file->host_fd(), &address.bytes, &address.size);
  if (result < 0) return result;
  if (SocketRelay* const relay = relay_of(thread, *file); relay != nullptr) {
    relay->rename(file->host_fd(), args.nr == SYS_getpeername, address);
  }
  if (!addr_arg(args, 1)) return -EFAULT;
  return write_address(thread, addr_arg(args, 1), addr_arg(args, 2), address);
}

using namespace arg;
// The address buffer's size is behind the next argument, a pointer: enumerated with the least size.
constexpr SyscallRow kRows[] = {
    {SYS_socket,
     "socket",
     {kNum, kNum, kNum},
     do_socket,
     Support::kPartial,
     "AF_UNIX, AF_INET, AF_INET6; AF_NETLINK for NETLINK_ROUTE"},
    {SYS_socketpair, "socketpair", {kNum, kNum, kNum, out(8)}, do_socketpair},
    {SYS_bind, "bind", {kFd, in(from_arg(2)), kNum}, do_bind},
    {SYS_connect, "connect", {kFd, in(from_arg(2)), kNum}, do_connect, Support::kFull, "", true},
    {SYS_listen, "listen", {kFd, kNum}, do_listen},
    {SYS_accept, "accept", {kFd, out_or_null(2), inout_or_null(4)}, do_accept, Support::kFull, "", true},
    {SYS_accept4, "accept4", {kFd, out_or_null(2), inout_or_null(4), kNum}, do_accept4, Support::kFull, "", true},
    {SYS_getsockname, "getsockname", {kFd, out(2), inout(4)}, do_name},
    {SYS_getpeername, "getpeername", {kFd, out(2), inout(4)}, do_name},
    {SYS_shutdown, "shutdown", {kFd, kNum}, pass_through},
};

}  // namespace

std::span<SyscallRow const> socket_call_rows() {
  return kRows;
}

std::span<SyscallRow const> socket_rows() {
  static std::vector<SyscallRow> const rows =
      join_rows({socket_call_rows(), socket_message_rows(), socket_option_rows()});
  return rows;
}

}  // namespace vmm
