#include "runtime/replicate/address.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cstddef>

namespace vmsrs::runtime::replicate {

Address::Address(sockaddr const* address, socklen_t size) {
  auto const* const from = reinterpret_cast<std::byte const*>(address);
  bytes_.assign(from, from + std::min<size_t>(size, sizeof(sockaddr_storage)));
}

bool Address::valid() const {
  if (bytes_.empty()) return true;
  if (bytes_.size() < sizeof(sa_family_t) || bytes_.size() > sizeof(sockaddr_storage)) return false;
  sa_family_t kind = 0;
  std::memcpy(&kind, bytes_.data(), sizeof kind);
  if (kind == AF_INET) return bytes_.size() == sizeof(sockaddr_in);
  if (kind == AF_INET6) return bytes_.size() == sizeof(sockaddr_in6);
  return kind == AF_UNIX && bytes_.size() <= sizeof(sockaddr_un);
}

vmm::Result<Address> Address::parse(std::string const& text) {
  constexpr std::string_view kUnix = "unix:";
  if (text.starts_with(kUnix)) {
    std::string const name = text.substr(kUnix.size());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (name.empty() || name.size() >= sizeof address.sun_path) {
      return vmm::fail(vmm::Errc::kBadOption, fmt::format("{}: a socket's name of 1 to {} bytes is needed", text,
                                                          sizeof address.sun_path - 1));
    }
    std::memcpy(address.sun_path, name.data(), name.size());
    bool const abstract = name.front() == '@';
    if (abstract) address.sun_path[0] = 0;
    return Address(reinterpret_cast<sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (abstract ? 0 : 1)));
  }
  size_t const colon = text.rfind(':');
  if (colon == std::string::npos || colon + 1 == text.size()) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("{}: HOST:PORT or unix:NAME is needed", text));
  }
  std::string host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  bool const any = host.empty() || host == "*";
  int const error = getaddrinfo(any ? nullptr : host.c_str(), text.c_str() + colon + 1, &hints, &found);
  if (error != 0) return vmm::fail(vmm::Errc::kBadOption, fmt::format("{}: {}", text, gai_strerror(error)));
  Address const address(found->ai_addr, found->ai_addrlen);
  freeaddrinfo(found);
  return address;
}

Address Address::local_name(int fd) {
  sockaddr_storage to{};
  socklen_t size = sizeof to;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&to), &size) == 0 ? Address(reinterpret_cast<sockaddr*>(&to), size)
                                                                       : Address();
}

Address Address::peer_name(int fd) {
  sockaddr_storage to{};
  socklen_t size = sizeof to;
  return getpeername(fd, reinterpret_cast<sockaddr*>(&to), &size) == 0 ? Address(reinterpret_cast<sockaddr*>(&to), size)
                                                                       : Address();
}

Address Address::loopback() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return {reinterpret_cast<sockaddr*>(&address), sizeof address};
}

uint16_t Address::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<sockaddr_in const*>(bytes_.data())->sin_port);
  if (family() == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6 const*>(bytes_.data())->sin6_port);
  return 0;
}

void Address::set_port(uint16_t port) {
  // The port lies at the same place in both.
  static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
  if (is_tcp()) reinterpret_cast<sockaddr_in*>(bytes_.data())->sin_port = htons(port);
}

std::string Address::text() const {
  char host[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    inet_ntop(AF_INET, &reinterpret_cast<sockaddr_in const*>(bytes_.data())->sin_addr, host, sizeof host);
    return fmt::format("{}:{}", host, port());
  }
  if (family() == AF_INET6) {
    inet_ntop(AF_INET6, &reinterpret_cast<sockaddr_in6 const*>(bytes_.data())->sin6_addr, host, sizeof host);
    return fmt::format("[{}]:{}", host, port());
  }
  if (family() == AF_UNIX) {
    auto const* const path = reinterpret_cast<char const*>(bytes_.data()) + offsetof(sockaddr_un, sun_path);
    size_t const length = bytes_.size() - offsetof(sockaddr_un, sun_path);
    if (length == 0) return "unix:";
    if (path[0] == 0) return "unix:@" + std::string(path + 1, length - 1);
    return "unix:" + std::string(path, strnlen(path, length));
  }
  return "none";
}

Address Address::plain() const {
  if (family() == AF_INET) {
    sockaddr_in to{};
    auto const* const from = reinterpret_cast<sockaddr_in const*>(bytes_.data());
    to.sin_family = AF_INET;
    to.sin_addr = from->sin_addr;
    to.sin_port = from->sin_port;
    return {reinterpret_cast<sockaddr*>(&to), sizeof to};
  }
  if (family() != AF_INET6) return *this;
  auto const* const from = reinterpret_cast<sockaddr_in6 const*>(bytes_.data());
  if (IN6_IS_ADDR_V4MAPPED(&from->sin6_addr)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    std::memcpy(&to.sin_addr, from->sin6_addr.s6_addr + 12, 4);
    to.sin_port = from->sin6_port;
    return {reinterpret_cast<sockaddr*>(&to), sizeof to};
  }
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_addr = from->sin6_addr;
  to.sin6_port = from->sin6_port;
  return {reinterpret_cast<sockaddr*>(&to), sizeof to};
}

}  // namespace vmsrs::runtime::replicate
