// Sockets of a checkpoint. Options, names and roles are taken from the host; of a TCP connection that somebody owns,
// TCP_INFO tells how far it is.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "vmm/checkpoint/fd_state.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmm {
namespace {

constexpr uint64_t kMostUnread = 16 << 20;

struct OptionName {
  int level, name;
};
constexpr OptionName kAny[] = {{SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_KEEPALIVE},
                               {SOL_SOCKET, SO_LINGER},    {SOL_SOCKET, SO_RCVTIMEO},  {SOL_SOCKET, SO_SNDTIMEO},
                               {SOL_SOCKET, SO_OOBINLINE}, {SOL_SOCKET, SO_PASSCRED},  {SOL_SOCKET, SO_BROADCAST}};
constexpr OptionName kTcp[] = {{IPPROTO_TCP, TCP_NODELAY},      {IPPROTO_TCP, TCP_KEEPIDLE},
                               {IPPROTO_TCP, TCP_KEEPINTVL},    {IPPROTO_TCP, TCP_KEEPCNT},
                               {IPPROTO_TCP, TCP_DEFER_ACCEPT}, {IPPROTO_TCP, TCP_USER_TIMEOUT},
                               {IPPROTO_TCP, TCP_QUICKACK}};
constexpr OptionName kSixth[] = {{IPPROTO_IPV6, IPV6_V6ONLY}};

int int_option(int fd, int level, int name, int otherwise) {
  int value = otherwise;
  socklen_t size = sizeof value;
  return getsockopt(fd, level, name, &value, &size) == 0 ? value : otherwise;
}

bool is_tcp(SocketState const& s) {
  return (s.domain == AF_INET || s.domain == AF_INET6) && s.type == SOCK_STREAM;
}

void take_options(int fd, std::span<OptionName const> names, SocketState& s) {
  for (auto const& [level, name] : names) {
    std::byte value[64];
    socklen_t size = sizeof value;
    if (getsockopt(fd, level, name, value, &size) == 0) s.options.push_back({level, name, {value, value + size}});
  }
}

void put_options(int fd, SocketState const& s) {
  for (auto const& option : s.options) {
    setsockopt(fd, option.level, option.name, option.value.data(), static_cast<socklen_t>(option.value.size()));
  }
}

// The inode of a Unix socket's other end, from the kernel's socket diagnosis; 0: none.
uint64_t unix_peer(uint64_t inode) {
  ScopedFd const netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (netlink.get() < 0) return 0;
  struct {
    nlmsghdr header;
    unix_diag_req request;
  } ask{};
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.header.nlmsg_flags = NLM_F_REQUEST;
  ask.request.sdiag_family = AF_UNIX;
  ask.request.udiag_ino = static_cast<uint32_t>(inode);
  ask.request.udiag_show = UDIAG_SHOW_PEER;
  ask.request.udiag_cookie[0] = ask.request.udiag_cookie[1] = ~0U;
  if (send(netlink.get(), &ask, sizeof ask, 0) != sizeof ask) return 0;
  alignas(nlmsghdr) char answer[4096];
  ssize_t const n = recv(netlink.get(), answer, sizeof answer, 0);
  auto const* const header = reinterpret_cast<nlmsghdr const*>(answer);
  if (n < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(unix_diag_msg))) || header->nlmsg_type != SOCK_DIAG_BY_FAMILY)
    return 0;
  auto const end = static_cast<size_t>(std::min<ssize_t>(n, header->nlmsg_len));
  for (size_t at = NLMSG_LENGTH(sizeof(unix_diag_msg)); at + sizeof(nlattr) <= end;) {
    nlattr attribute{};
    std::memcpy(&attribute, answer + at, sizeof attribute);
    if (attribute.nla_len < sizeof attribute || at + attribute.nla_len > end) return 0;
    uint32_t peer = 0;
    if (attribute.nla_type == UNIX_DIAG_PEER && attribute.nla_len >= sizeof attribute + sizeof peer) {
      std::memcpy(&peer, answer + at + sizeof attribute, sizeof peer);
      return peer;
    }
    at += NLA_ALIGN(attribute.nla_len);
  }
  return 0;
}

// What lies in a Unix socket's queue, left there.
bool peek_all(int fd, SocketState& s) {
  int const before = int_option(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
  int at = 0;
  if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &at, sizeof at) != 0) return false;
  uint64_t sum = 0;
  std::vector<std::byte> chunk(256 << 10);
  bool good = true;
  for (;;) {
    ssize_t const n = recv(fd, chunk.data(), chunk.size(), MSG_PEEK | MSG_DONTWAIT);
    if (n < 0) good = errno == EAGAIN || errno == ECONNRESET;
    if (n <= 0) break;
    sum += static_cast<uint64_t>(n);
    good = sum <= kMostUnread;
    if (!good) break;
    s.unread.emplace_back(chunk.begin(), chunk.begin() + n);
  }
  setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &before, sizeof before);
  return good;
}

// Bytes that the guest has taken out and put in, by the host's counters; input may arrive meanwhile.
constexpr uint8_t kFinWait1 = 4, kFinWait2 = 5, kTimeWait = 6, kClose = 7, kCloseWait = 8, kLastAck = 9,
                  kClosing = 11;  // as in the kernel's net/tcp_states.h
bool tcp_progress(int fd, SocketState& s) {
  for (int tries = 0; tries < 16; ++tries) {
    tcp_info info{};
    socklen_t size = sizeof info;
    int unread = 0, unread_after = 0, unsent = 0;
    if (ioctl(fd, FIONREAD, &unread) != 0) return false;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || ioctl(fd, SIOCOUTQ, &unsent) != 0) return false;
    if (ioctl(fd, FIONREAD, &unread_after) != 0) return false;
    tcp_info again{};
    size = sizeof again;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &again, &size) != 0) return false;
    if (unread != unread_after || info.tcpi_bytes_received != again.tcpi_bytes_received ||
        info.tcpi_bytes_acked != again.tcpi_bytes_acked) {
      continue;
    }
    // The counters take the end of a stream for one more byte.
    uint8_t const state = info.tcpi_state;
    bool const peer_ended =
        state == kCloseWait || state == kLastAck || state == kClosing || state == kTimeWait || state == kClose;
    s.write_shut = state == kFinWait1 || state == kFinWait2 || state == kLastAck || state == kClosing ||
                   state == kTimeWait || state == kClose;
    s.read_shut = unread == 0 && peer_ended;
    s.read = info.tcpi_bytes_received - static_cast<uint64_t>(unread) - (peer_ended ? 1 : 0);
    s.written = info.tcpi_bytes_acked + static_cast<uint64_t>(unsent) - (s.write_shut ? 1 : 0);
    return true;
  }
  return false;
}

// A socket whose first read is ECONNRESET and every later one the end: what is left when the peer is gone.
int reset_socket(SocketState const& s, std::string& what) {
  if (s.domain == AF_UNIX) {
    int ends[2];
    what = "socketpair";
    if (socketpair(AF_UNIX, s.type | SOCK_CLOEXEC, 0, ends) != 0) return -errno;
    close(ends[1]);
    return ends[0];
  }
  what = "making a connection that is reset";
  ScopedFd const listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  auto* const name = reinterpret_cast<sockaddr*>(&at);
  if (listener.get() < 0 || bind(listener.get(), name, size) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), name, &size) != 0) {
    return -errno;
  }
  int const mine = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (mine < 0) return -errno;
  if (connect(mine, name, size) != 0) {
    int const error = errno;
    close(mine);
    return -error;
  }
  int const theirs = accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC);
  linger const now{1, 0};
  if (theirs >= 0) {
    setsockopt(theirs, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(theirs);
  }
  return mine;
}

}  // namespace

Result<void> capture_socket(int fd, OpenFileState& o, SocketHooks const& hooks) {
  SocketState& s = o.socket;
  s.domain = int_option(fd, SOL_SOCKET, SO_DOMAIN, -1);
  s.type = int_option(fd, SOL_SOCKET, SO_TYPE, -1);
  s.protocol = int_option(fd, SOL_SOCKET, SO_PROTOCOL, 0);
  if (s.domain < 0 || s.type < 0) return fail_host("getsockopt(SO_DOMAIN)");
  socklen_t size = sizeof s.local.address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&s.local.address), &size) == 0) s.local.size = size;
  size = sizeof s.peer.address;
  bool const connected = getpeername(fd, reinterpret_cast<sockaddr*>(&s.peer.address), &size) == 0;
  if (connected) s.peer.size = std::min<uint32_t>(size, sizeof s.peer.address);
  take_options(fd, kAny, s);
  if (is_tcp(s)) take_options(fd, kTcp, s);
  if (s.domain == AF_INET6) take_options(fd, kSixth, s);
  if (int_option(fd, SOL_SOCKET, SO_ACCEPTCONN, 0) != 0) {
    s.role = SocketRole::kListening;
    tcp_info info{};
    size = sizeof info;
    // Of a listening socket TCP_INFO tells the length of its queue there.
    bool const told = is_tcp(s) && getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0;
    s.backlog = told && info.tcpi_sacked != 0 ? static_cast<int>(info.tcpi_sacked) : SOMAXCONN;
    return {};
  }
  if (s.domain == AF_UNIX) {
    struct stat st {};
    uint64_t const peer = fstat(fd, &st) == 0 ? unix_peer(st.st_ino) : 0;
    if (peer == 0 && !connected) return {};
    s.role = SocketRole::kPair;
    s.claimed_id = peer;  // fd_capture.cpp looks whether it is the guest's own
    s.datagrams = s.type != SOCK_STREAM;
    if (!peek_all(fd, s)) return fail(Errc::kNotCheckpointable, "a Unix socket whose queue cannot be seen");
    return {};
  }
  if (!is_tcp(s)) return {};
  tcp_info info{};
  size = sizeof info;
  bool const closed = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == 7;
  if (!connected) {
    constexpr int kSynSent = 2;
    if (info.tcpi_state == kSynSent) s.local.size = 0;  // connects anew, from any port
    // After the connection's end.
    if (closed && s.local.size != 0 && info.tcpi_bytes_received + info.tcpi_bytes_acked != 0)
      s.role = SocketRole::kGone;
    return {};
  }
  s.role = SocketRole::kGone;
  auto const claim = hooks.claim ? hooks.claim(s.local, s.peer) : std::nullopt;
  if (!claim) return {};
  if (!tcp_progress(fd, s)) return fail_host("TCP_INFO of a connection");
  s.role = SocketRole::kClaimed;
  s.claimed_id = claim->id;
  s.read += claim->read_before;
  s.written += claim->written_before;
  return {};
}

int restore_socket(OpenFileState const& o, std::vector<int> const& numbers, SocketHooks const& hooks,
                   std::string& what) {
  SocketState const& s = o.socket;
  if (s.role == SocketRole::kClaimed || s.role == SocketRole::kGone) {
    int fd = s.role == SocketRole::kClaimed && hooks.attach ? hooks.attach(s, numbers) : -1;
    if (fd < 0) fd = reset_socket(s, what);
    if (fd >= 0) put_options(fd, s);
    return fd;
  }
  what = "socket";
  ScopedFd made(socket(s.domain, s.type | SOCK_CLOEXEC, s.protocol));
  if (made.get() < 0) return -errno;
  put_options(made.get(), s);
  SocketName name = s.local;
  bool const listening = s.role == SocketRole::kListening;
  if (listening && hooks.listen_at) name = hooks.listen_at(s.local);
  bool const internet = s.domain == AF_INET || s.domain == AF_INET6;
  bool const named = internet ? name.size != 0 : name.size > sizeof(sa_family_t);
  auto* const address = reinterpret_cast<sockaddr*>(&name.address);
  if (named && s.domain == AF_UNIX) {
    // A socket of the guest that is gone has left its name.
    auto const* const path = reinterpret_cast<sockaddr_un const*>(&name.address)->sun_path;
    struct stat st {};
    if (path[0] != '\0' && lstat(path, &st) == 0 && S_ISSOCK(st.st_mode)) unlink(path);
  }
  what = "bind";
  bool const any_port = internet && reinterpret_cast<sockaddr_in const*>(&name.address)->sin_port == 0;
  if (named && s.domain != AF_NETLINK && (listening || !any_port) && bind(made.get(), address, name.size) != 0)
    return -errno;
  if (listening) {
    what = "listen";
    if (listen(made.get(), s.backlog) != 0) return -errno;
    SocketName actual;
    socklen_t size = sizeof actual.address;
    if (hooks.listening && getsockname(made.get(), reinterpret_cast<sockaddr*>(&actual.address), &size) == 0) {
      actual.size = size;
      hooks.listening(s.local, actual);
    }
  } else if (s.peer.size != 0 && s.type == SOCK_DGRAM) {
    what = "connect";
    if (connect(made.get(), reinterpret_cast<sockaddr const*>(&s.peer.address), s.peer.size) != 0) return -errno;
  }
  return fcntl(made.get(), F_DUPFD_CLOEXEC, 3);
}

int restore_socket_pair(OpenFileState const& first, OpenFileState const& second, int (&ends)[2], std::string& what) {
  what = "socketpair";
  if (socketpair(AF_UNIX, first.socket.type | SOCK_CLOEXEC, 0, ends) != 0) return -errno;
  put_options(ends[0], first.socket);
  put_options(ends[1], second.socket);
  what = "filling a socket pair";
  int const room = static_cast<int>(kMostUnread);
  for (int const end : ends) setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
  auto const fill = [](int from, SocketState const& to) {
    for (auto const& part : to.unread) {
      for (size_t done = 0; done < part.size() || part.empty();) {
        ssize_t const n = send(from, part.data() + done, part.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) return -errno;
        if (part.empty()) break;
        done += static_cast<size_t>(n);
      }
    }
    return 0;
  };
  int error = fill(ends[1], first.socket);
  if (error == 0) error = fill(ends[0], second.socket);
  if (error != 0) {
    close(ends[0]);
    close(ends[1]);
  }
  return error;
}

}  // namespace vmm
