#include "runtime/protect/guest_sockets.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "runtime/protect/tcp_counters.hpp"
#include "runtime/replicate/named_socket.hpp"

namespace vmsrs::runtime::protect {
namespace {

using replicate::Address;

int option(int fd, int level, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  return getsockopt(fd, level, name, &value, &size) == 0 ? value : 0;
}

Address to_address(vmm::SocketAddress const& name) {
  return {reinterpret_cast<sockaddr const*>(&name.bytes), name.size};
}
Address to_address(checkpoint::Endpoint const& end) {
  return {reinterpret_cast<sockaddr const*>(&end.address), end.size};
}

// IPv4 as a socket of IPv6 names it.
Address mapped(Address const& address) {
  if (address.family() != AF_INET) return address;
  auto const& four = *reinterpret_cast<sockaddr_in const*>(address.get());
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = four.sin_port;
  six.sin6_addr.s6_addr[10] = six.sin6_addr.s6_addr[11] = 0xff;
  std::memcpy(&six.sin6_addr.s6_addr[12], &four.sin_addr, sizeof four.sin_addr);
  return {reinterpret_cast<sockaddr const*>(&six), sizeof six};
}

void put(int fd, Address const& address, vmm::SocketAddress& name) {
  Address const shown = option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6 ? mapped(address) : address;
  name = {};
  std::memcpy(&name.bytes, shown.get(), shown.size());
  name.size = shown.size();
}

}  // namespace

void GuestSockets::use(replicate::GatewayLink& link, replicate::Address const& gateway) {
  link_ = &link;
  if (Address const local = gateway.is_tcp() ? replicate::local_towards(gateway) : Address(); !local.empty())
    inside_ = local;
}

// Any port there.
Address GuestSockets::inside_of(int domain, bool v6_only) const {
  bool const four = inside_.family() == AF_INET;
  if (domain == AF_INET) return four ? inside_ : Address::loopback();
  if (!four) return inside_;
  if (!v6_only) return mapped(inside_);
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_addr = in6addr_loopback;
  return {reinterpret_cast<sockaddr const*>(&six), sizeof six};
}

void GuestSockets::opening(replicate::Opening const& what) {
  std::lock_guard const guard(mutex_);
  announced_[what.source.plain()] = what;
}

int GuestSockets::bind(int fd, vmm::SocketAddress const& wanted) {
  int const domain = option(fd, SOL_SOCKET, SO_DOMAIN);
  if (wanted.size < sizeof(sa_family_t) || wanted.bytes.ss_family != domain) {
    return ::bind(fd, reinterpret_cast<sockaddr const*>(&wanted.bytes), wanted.size) == 0 ? 0 : -errno;
  }
  bool const v6_only = domain == AF_INET6 && option(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0;
  Listener made;
  {
    std::lock_guard const guard(mutex_);
    made.id = next_listener_++;
  }
  int const refused =
      link_->bind({made.id, to_address(wanted), v6_only, option(fd, SOL_SOCKET, SO_REUSEPORT) != 0}, made.outside);
  if (refused != 0) return -refused;
  Address const inside = inside_of(domain, v6_only);
  if (::bind(fd, inside.get(), inside.size()) != 0) {
    int const error = errno;
    link_->send(replicate::Unlisten{made.id});
    return -error;
  }
  std::lock_guard const guard(mutex_);
  listeners_[Address::local_name(fd).plain()] = made;
  return 0;
}

int GuestSockets::listening(int fd, int backlog) {
  Address const inside = Address::local_name(fd).plain();
  uint64_t id = 0;
  {
    std::lock_guard const guard(mutex_);
    auto const found = listeners_.find(inside);
    // Not bound by the guest: on a port that nobody was told.
    if (found == listeners_.end() || std::exchange(found->second.told, true)) return 0;
    id = found->second.id;
  }
  return -link_->listen({id, inside, backlog});
}

bool GuestSockets::admit(int fd, vmm::SocketAddress& peer) {
  Ends const ends = ends_of(fd);
  std::lock_guard const guard(mutex_);
  auto const found = announced_.extract(ends.second);
  if (found.empty()) return !listeners_.contains(ends.first);
  replicate::Opening const& what = found.mapped();
  connections_[ends] = {what.connection, what.client, what.server, 0, 0, false};
  put(fd, what.client, peer);
  return true;
}

void GuestSockets::rename(int fd, bool of_peer, vmm::SocketAddress& name) {
  Ends const ends = ends_of(fd);
  std::lock_guard const guard(mutex_);
  auto const connection = connections_.find(ends);
  if (connection != connections_.end()) {
    return put(fd, of_peer ? connection->second.client : connection->second.server, name);
  }
  auto const listener = listeners_.find(ends.first);
  if (!of_peer && listener != listeners_.end()) put(fd, listener->second.outside, name);
}

void GuestSockets::boundary() {
  std::lock_guard const guard(mutex_);
  for (auto& [ends, connection] : connections_) connection.settled = true;
}

std::optional<checkpoint::ConnectionOwner::Claim> GuestSockets::claim(checkpoint::Endpoint const& local,
                                                                      checkpoint::Endpoint const& peer) {
  std::lock_guard const guard(mutex_);
  auto const found = connections_.find({to_address(local).plain(), to_address(peer).plain()});
  if (found == connections_.end()) return std::nullopt;
  return Claim{found->second.id, found->second.read_before, found->second.written_before};
}

int GuestSockets::attach(checkpoint::Connection const& connection) {
  replicate::Attached told;
  int const fd = link_->attach(connection.id, connection.read, connection.written, told);
  std::lock_guard const guard(mutex_);
  if (fd < 0) {
    gone_.push_back(connection.id);
    return fd;
  }
  if (connection.write_shut) shutdown(fd, SHUT_WR);
  connections_[ends_of(fd)] = {
      connection.id, told.client, told.server, connection.read, connection.written - acknowledged_bytes(fd), false};
  return fd;
}

checkpoint::Endpoint GuestSockets::listen_at(checkpoint::Endpoint const& original) {
  // The primary before may still be there, asleep, and have the port; or this is another host.
  checkpoint::Endpoint at = original;
  Address const before = to_address(original);
  if (!before.is_tcp()) return at;
  Address const inside = inside_of(before.family(), before.plain().family() == AF_INET6);
  at.address = {};
  std::memcpy(&at.address, inside.get(), inside.size());
  at.size = inside.size();
  return at;
}

void GuestSockets::listening(checkpoint::Endpoint const& original, checkpoint::Endpoint const& actual) {
  Address const before = to_address(original).plain(), now = to_address(actual).plain();
  for (replicate::KnownListener const& known : link_->welcome().listeners) {
    if (known.inside.plain() != before) continue;
    {
      std::lock_guard const guard(mutex_);
      listeners_[now] = {known.listener, known.outside, true};
      next_listener_ = std::max(next_listener_, known.listener + 1);
    }
    (void)link_->listen({known.listener, now, SOMAXCONN});
    return;
  }
}

GuestSockets::Marks GuestSockets::marks(std::vector<checkpoint::Connection> const& found) {
  Marks marks;
  std::set<uint64_t> open;
  for (checkpoint::Connection const& c : found) {
    open.insert(c.id);
    marks.open.push_back({c.id, c.read, c.written, c.write_shut});
  }
  std::lock_guard const guard(mutex_);
  marks.closed = std::exchange(gone_, {});
  std::erase_if(connections_, [&](auto const& entry) {
    bool const closed = entry.second.settled && !open.contains(entry.second.id);
    if (closed) marks.closed.push_back(entry.second.id);
    return closed;
  });
  return marks;
}

}  // namespace vmsrs::runtime::protect
