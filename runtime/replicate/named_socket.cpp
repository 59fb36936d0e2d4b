#include "runtime/replicate/named_socket.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace vmsrs::runtime::replicate {

Address local_towards(Address const& to) {
  // The routing table tells a datagram socket without sending anything.
  int const probe = socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return {};
  Address from;
  int error = 0;
  if (connect(probe, to.get(), to.size()) == 0) {
    from = Address::local_name(probe);
    from.set_port(0);
  } else {
    error = errno;
  }
  close(probe);
  errno = error;
  return from;
}

int named_socket(Address const& to) {
  Address const from = local_towards(to);
  if (from.empty()) return -errno;
  int const fd = socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  if (bind(fd, from.get(), from.size()) == 0) return fd;
  int const error = errno;
  close(fd);
  return -error;
}

int connect_blocking(int fd, Address const& to) {
  constexpr int kMilliseconds = 5000;
  if (connect(fd, to.get(), to.size()) != 0 && errno != EINPROGRESS) return -errno;
  pollfd ready{fd, POLLOUT, 0};
  int const n = poll(&ready, 1, kMilliseconds);
  if (n == 0) return -ETIMEDOUT;
  int error = 0;
  socklen_t size = sizeof error;
  if (n < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return -errno;
  if (error != 0) return -error;
  int const on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) == 0 ? 0 : -errno;
}

}  // namespace vmsrs::runtime::replicate
