#include "runtime/checkpoint/connections.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>

#include "runtime/checkpoint/socket_hooks.hpp"

namespace vmsrs::checkpoint {
namespace {

Endpoint to_endpoint(vmm::SocketName const& name) {
  return {name.address, name.size};
}

Connection to_connection(vmm::SocketState const& s, std::vector<int> numbers) {
  return {s.claimed_id,      s.read, s.written, s.read_shut, s.write_shut, to_endpoint(s.local), to_endpoint(s.peer),
          std::move(numbers)};
}

}  // namespace

std::string Endpoint::text() const {
  char host[INET6_ADDRSTRLEN] = {};
  switch (address.ss_family) {
    case AF_INET: {
      auto const& in = reinterpret_cast<sockaddr_in const&>(address);
      inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
      return fmt::format("{}:{}", host, ntohs(in.sin_port));
    }
    case AF_INET6: {
      auto const& in = reinterpret_cast<sockaddr_in6 const&>(address);
      inet_ntop(AF_INET6, &in.sin6_addr, host, sizeof host);
      return fmt::format("[{}]:{}", host, ntohs(in.sin6_port));
    }
    case AF_UNIX: {
      auto const& un = reinterpret_cast<sockaddr_un const&>(address);
      size_t const room = size > offsetof(sockaddr_un, sun_path) ? size - offsetof(sockaddr_un, sun_path) : 0;
      return "unix:" + std::string(un.sun_path, strnlen(un.sun_path, room));
    }
    default:
      return fmt::format("family {}", address.ss_family);
  }
}

SocketHooks socket_hooks(ConnectionOwner* owner) {
  SocketHooks hooks;
  if (owner == nullptr) return hooks;
  hooks.claim = [owner](vmm::SocketName const& local,
                        vmm::SocketName const& peer) -> std::optional<SocketHooks::Claim> {
    auto const claim = owner->claim(to_endpoint(local), to_endpoint(peer));
    if (!claim) return std::nullopt;
    return SocketHooks::Claim{claim->id, claim->read_before, claim->written_before};
  };
  hooks.attach = [owner](vmm::SocketState const& s, std::vector<int> const& numbers) {
    return owner->attach(to_connection(s, numbers));
  };
  hooks.listen_at = [owner](vmm::SocketName const& name) {
    Endpoint const at = owner->listen_at(to_endpoint(name));
    return vmm::SocketName{at.address, at.size};
  };
  hooks.listening = [owner](vmm::SocketName const& original, vmm::SocketName const& actual) {
    owner->listening(to_endpoint(original), to_endpoint(actual));
  };
  return hooks;
}

std::vector<Connection> connections_of(vmm::FdState const& state) {
  std::vector<Connection> found;
  for (size_t i = 0; i < state.objects.size(); ++i) {
    vmm::SocketState const& s = state.objects[i].socket;
    if (s.role != vmm::SocketRole::kClaimed) continue;
    std::vector<int> numbers;
    for (vmm::FdEntryState const& entry : state.entries) {
      if (entry.object == i) numbers.push_back(entry.number);
    }
    found.push_back(to_connection(s, std::move(numbers)));
  }
  return found;
}

}  // namespace vmsrs::checkpoint
