// getsockopt, setsockopt: the allowed options. None of them has an inner pointer or yields an fd;
// what is not listed answers ENOPROTOOPT.
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>

#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"

namespace vmm {

namespace {

struct Option {
  int level, name;
};

constexpr Option kOptions[] = {
    {SOL_SOCKET, SO_ACCEPTCONN},
    {SOL_SOCKET, SO_BROADCAST},
    {SOL_SOCKET, SO_BUSY_POLL},
    {SOL_SOCKET, SO_COOKIE},
    {SOL_SOCKET, SO_DEBUG},
    {SOL_SOCKET, SO_DOMAIN},
    {SOL_SOCKET, SO_DONTROUTE},
    {SOL_SOCKET, SO_ERROR},
    {SOL_SOCKET, SO_INCOMING_CPU},
    {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_LINGER},
    {SOL_SOCKET, SO_MARK},
    {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_PASSCRED},
    {SOL_SOCKET, SO_PEEK_OFF},
    {SOL_SOCKET, SO_PEERCRED},
    {SOL_SOCKET, SO_PEERGROUPS},
    {SOL_SOCKET, SO_PEERSEC},
    {SOL_SOCKET, SO_PRIORITY},
    {SOL_SOCKET, SO_PROTOCOL},
    {SOL_SOCKET, SO_RCVBUF},
    {SOL_SOCKET, SO_RCVBUFFORCE},
    {SOL_SOCKET, SO_RCVLOWAT},
    {SOL_SOCKET, SO_RCVTIMEO},
    {SOL_SOCKET, SO_REUSEADDR},
    {SOL_SOCKET, SO_REUSEPORT},
    {SOL_SOCKET, SO_RXQ_OVFL},
    {SOL_SOCKET, SO_SNDBUF},
    {SOL_SOCKET, SO_SNDBUFFORCE},
    {SOL_SOCKET, SO_SNDLOWAT},
    {SOL_SOCKET, SO_SNDTIMEO},
    {SOL_SOCKET, SO_TIMESTAMP},
    {SOL_SOCKET, SO_TIMESTAMPNS},
    {SOL_SOCKET, SO_TIMESTAMPING},
    {SOL_SOCKET, SO_TYPE},
    {IPPROTO_TCP, TCP_CONGESTION},
    {IPPROTO_TCP, TCP_CORK},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT},
    {IPPROTO_TCP, TCP_FASTOPEN},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT},
    {IPPROTO_TCP, TCP_INFO},
    {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_KEEPIDLE},
    {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_LINGER2},
    {IPPROTO_TCP, TCP_MAXSEG},
    {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    {IPPROTO_TCP, TCP_QUICKACK},
    {IPPROTO_TCP, TCP_SYNCNT},
    {IPPROTO_TCP, TCP_TIMESTAMP},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP},
    {IPPROTO_IP, IP_ADD_MEMBERSHIP},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT},
    {IPPROTO_IP, IP_DROP_MEMBERSHIP},
    {IPPROTO_IP, IP_FREEBIND},
    {IPPROTO_IP, IP_MTU},
    {IPPROTO_IP, IP_MTU_DISCOVER},
    {IPPROTO_IP, IP_MULTICAST_ALL},
    {IPPROTO_IP, IP_MULTICAST_IF},
    {IPPROTO_IP, IP_MULTICAST_LOOP},
    {IPPROTO_IP, IP_MULTICAST_TTL},
    {IPPROTO_IP, IP_PKTINFO},
    {IPPROTO_IP, IP_RECVERR},
    {IPPROTO_IP, IP_RECVOPTS},
    {IPPROTO_IP, IP_RECVTOS},
    {IPPROTO_IP, IP_RECVTTL},
    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},
    {IPPROTO_IPV6, IPV6_JOIN_GROUP},
    {IPPROTO_IPV6, IPV6_LEAVE_GROUP},
    {IPPROTO_IPV6, IPV6_MTU},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER},
    {IPPROTO_IPV6, IPV6_MULTICAST_HOPS},
    {IPPROTO_IPV6, IPV6_MULTICAST_IF},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP},
    {IPPROTO_IPV6, IPV6_RECVERR},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO},
    {IPPROTO_IPV6, IPV6_RECVTCLASS},
    {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {IPPROTO_IPV6, IPV6_V6ONLY},
    {IPPROTO_UDP, UDP_CORK},
    {IPPROTO_UDP, UDP_SEGMENT},
    {IPPROTO_UDP, UDP_GRO},
    {SOL_NETLINK, NETLINK_ADD_MEMBERSHIP},
    {SOL_NETLINK, NETLINK_DROP_MEMBERSHIP},
    {SOL_NETLINK, NETLINK_PKTINFO},
    {SOL_NETLINK, NETLINK_EXT_ACK},
    {SOL_NETLINK, NETLINK_GET_STRICT_CHK},
};

constexpr size_t kMaxOption = 512;

bool allowed(int level, int name) {
  return std::any_of(std::begin(kOptions), std::end(kOptions),
                     [&](Option const& o) { return o.level == level && o.name == name; });
}

int64_t do_setsockopt(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  int const level = int_arg(args, 1), name = int_arg(args, 2), size = int_arg(args, 4);
  if (size < 0) return -EINVAL;
  if (!allowed(level, name)) return -ENOPROTOOPT;
  alignas(8) std::array<std::byte, kMaxOption> value;
  auto const used = std::min(static_cast<size_t>(size), value.size());
  if (used != 0 && !thread.memory().read(addr_arg(args, 3), value.data(), used)) return -EFAULT;
  int64_t const result = host(SYS_setsockopt, file->host_fd(), level, name, value.data(), used);
  if (result == 0 && level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO)) {
    file->socket_timeout = true;
  }
  return result;
}

int64_t do_getsockopt(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  int const level = int_arg(args, 1), name = int_arg(args, 2);
  GuestAddr const to = addr_arg(args, 3), size_at = addr_arg(args, 4);
  int room = 0;
  if (!thread.memory().read(size_at, room)) return -EFAULT;
  if (room < 0) return -EINVAL;
  if (!allowed(level, name)) return -ENOPROTOOPT;
  alignas(8) std::array<std::byte, kMaxOption> value{};
  auto used = static_cast<socklen_t>(std::min(static_cast<size_t>(room), value.size()));
  thread.announce_out({to, used});
  thread.announce_out({size_at, 4});
  int64_t const result = host(SYS_getsockopt, file->host_fd(), level, name, value.data(), &used);
  if (result < 0 && result != -ERANGE) return result;
  if (level == SOL_SOCKET && name == SO_PEERCRED && used >= sizeof(ucred)) {
    auto* const peer = reinterpret_cast<ucred*>(value.data());
    if (peer->pid == ::getpid()) peer->pid = Process::pid();
  }
  size_t const n = std::min<size_t>({used, static_cast<size_t>(room), value.size()});
  if (result == 0 && n != 0 && !write_out(thread, to, value.data(), n)) return -EFAULT;
  return write_out(thread, size_at, used) ? result : -EFAULT;
}

using namespace arg;
constexpr char const* kList = "a list of options per level; others are ENOPROTOOPT";
constexpr SyscallRow kRows[] = {
    {SYS_setsockopt, "setsockopt", {kFd, kNum, kNum, in(from_arg(4)), kNum}, do_setsockopt, Support::kPartial, kList},
    {SYS_getsockopt, "getsockopt", {kFd, kNum, kNum, out(4), inout(4)}, do_getsockopt, Support::kPartial, kList},
};

}  // namespace

std::span<SyscallRow const> socket_option_rows() {
  return kRows;
}

}  // namespace vmm
