// A socket address as a value: of a client, of a listening socket, of a part ("unix:@name", "unix:/path",
// "host:port", "[::1]:port").
#pragma once

#include <sys/socket.h>

#include <compare>
#include <cstdint>
#include <string>

#include "runtime/replicate/wire.hpp"
#include "vmm/error.hpp"

namespace vmsrs::runtime::replicate {

class Address {
 public:
  Address() = default;
  Address(sockaddr const* address, socklen_t size);
  // Numeric hosts and names (the first address found). "*:80" and ":80" are any address.
  static vmm::Result<Address> parse(std::string const& text);
  static Address local_name(int fd);  // getsockname; empty where it fails
  static Address peer_name(int fd);
  static Address loopback();  // 127.0.0.1, port 0

  [[nodiscard]] sockaddr const* get() const { return reinterpret_cast<sockaddr const*>(bytes_.data()); }
  [[nodiscard]] socklen_t size() const { return static_cast<socklen_t>(bytes_.size()); }
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  [[nodiscard]] int family() const { return bytes_.empty() ? AF_UNSPEC : get()->sa_family; }
  [[nodiscard]] bool is_tcp() const { return family() == AF_INET || family() == AF_INET6; }
  [[nodiscard]] uint16_t port() const;  // 0: no TCP address
  void set_port(uint16_t port);
  [[nodiscard]] std::string text() const;
  // IPv4 as such also where it came mapped into IPv6, without flow and scope: what two ends of a connection agree on.
  [[nodiscard]] Address plain() const;
  // NOLINTNEXTLINE(modernize-use-nullptr): it takes the zero of <=> for a pointer
  auto operator<=>(Address const&) const = default;

  template <class Codec>
  void each(Codec& codec) {
    codec(bytes_);
    if constexpr (Codec::kReads) {
      if (!valid()) codec.refuse();
    }
  }

 private:
  [[nodiscard]] bool valid() const;
  std::vector<std::byte> bytes_;
};

}  // namespace vmsrs::runtime::replicate
