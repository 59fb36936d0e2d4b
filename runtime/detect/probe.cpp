#include "runtime/detect/probe.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>

#include "runtime/detect/proc.hpp"

namespace vmsrs::runtime::detect {
namespace {

constexpr uint64_t kSliceMs = 20;

vmm::Result<std::string> unescape(std::string_view text, std::string const& url) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned value = 0;
    char const* const digits = text.data() + i + 1;
    if (i + 2 >= text.size() || std::from_chars(digits, digits + 2, value, 16).ptr != digits + 2) {
      return vmm::fail(vmm::Errc::kBadOption, fmt::format("probe {}: % needs two hexadecimal digits", url));
    }
    out += static_cast<char>(value);
    i += 2;
  }
  return out;
}

// Waits in slices, so that `give_up` is asked. 1: events; 0: too late; -1: given up.
int wait_for(int fd, int16_t events, uint64_t deadline_ns, std::function<bool()> const& give_up) {
  for (;;) {
    uint64_t const now = now_ns();
    bool const late = now >= deadline_ns;
    uint64_t const left_ms = late ? 0 : (deadline_ns - now) / 1'000'000 + 1;
    pollfd p{fd, events, 0};
    // Late: what lies there already still counts.
    int const n = poll(&p, 1, static_cast<int>(std::min(left_ms, kSliceMs)));
    if (n > 0) return 1;
    if (late) return 0;
    if (give_up && give_up()) return -1;
  }
}

}  // namespace

vmm::Result<ProbeSpec> ProbeSpec::parse(std::string const& url) {
  auto const bad = [&](std::string const& why) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("probe {}: {}", url, why));
  };
  std::string_view rest = url;
  bool const http = rest.starts_with("http://");
  if (!http && !rest.starts_with("tcp://")) return bad("tcp://HOST:PORT or http://HOST:PORT/PATH is needed");
  rest.remove_prefix(http ? 7 : 6);
  std::string_view options;
  if (size_t const mark = rest.find('?'); mark != std::string_view::npos && !http) {
    options = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  std::string_view path = "/";
  if (size_t const slash = rest.find('/'); slash != std::string_view::npos) {
    path = rest.substr(slash);
    rest = rest.substr(0, slash);
  }
  if (!http && path != "/") return bad("tcp:// has no path");
  size_t const colon = rest.find(':');
  if (colon == std::string_view::npos) return bad("the port is missing");
  std::string host(rest.substr(0, colon));
  std::string_view const port_text = rest.substr(colon + 1);
  unsigned port = 0;
  auto const [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (error != std::errc() || end != port_text.data() + port_text.size() || port == 0 || port > 65535) {
    return bad(fmt::format("'{}' is no port", port_text));
  }
  if (host == "localhost") host = "127.0.0.1";
  ProbeSpec spec;
  spec.address.sin_family = AF_INET;
  spec.address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, host.c_str(), &spec.address.sin_addr) != 1) {
    return bad(fmt::format("'{}' is no IPv4 address", host));
  }
  if (http) {
    spec.send = fmt::format("GET {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\n\r\n", path, host, port);
    spec.expect = "HTTP/1.";
  }
  while (!options.empty()) {
    size_t const amp = options.find('&');
    std::string_view const option = options.substr(0, amp);
    options = amp == std::string_view::npos ? std::string_view() : options.substr(amp + 1);
    size_t const equals = option.find('=');
    std::string_view const key = option.substr(0, equals);
    if (equals == std::string_view::npos) return bad(fmt::format("'{}' is no KEY=VALUE", option));
    auto value = unescape(option.substr(equals + 1), url);
    if (!value) return tl::unexpected(value.error());
    if (key == "send") {
      spec.send = *value;
    } else if (key == "expect") {
      spec.expect = *value;
    } else if (key == "keep" && (*value == "0" || *value == "1")) {
      spec.keep = *value == "1";
    } else {
      return bad(fmt::format("'{}' is none of send=, expect=, keep=0, keep=1", option));
    }
  }
  if (spec.send.empty() != spec.expect.empty()) return bad("send= and expect= go together");
  if (spec.keep && spec.send.empty()) return bad("keep=1 needs send= and expect=");
  return spec;
}

bool Prober::connect(uint64_t deadline_ns, std::function<bool()> const& give_up, ProbeResult& result) {
  socket_ = vmm::ScopedFd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_) return false;
  int const one = 1;
  setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::connect(socket_.get(), reinterpret_cast<sockaddr const*>(&spec_.address), sizeof spec_.address) != 0) {
    if (errno != EINPROGRESS) {
      if (errno == ECONNREFUSED) result.kind = ProbeResult::Kind::kRefused;
      return false;
    }
    int const waited = wait_for(socket_.get(), POLLOUT, deadline_ns, give_up);
    if (waited <= 0) {
      if (waited < 0) result.kind = ProbeResult::Kind::kGivenUp;
      return false;
    }
  }
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    if (error == ECONNREFUSED) result.kind = ProbeResult::Kind::kRefused;
    return false;
  }
  return true;
}

ProbeResult Prober::ask(uint64_t timeout_ms, std::function<bool()> const& give_up) {
  uint64_t const begin = now_ns();
  uint64_t const deadline = begin + timeout_ms * 1'000'000;
  ProbeResult result;
  auto const done = [&](bool close) {
    result.took_us = (now_ns() - begin) / 1000;
    if (close) socket_ = vmm::ScopedFd();
    return result;
  };
  // A server may close a kept connection between two probes, which is its right: once more, on a new one.
  for (int attempt = 0;; ++attempt) {
    bool const kept = static_cast<bool>(socket_);
    if (kept) {
      std::array<char, 4096> stale;
      ssize_t n = 0;
      while ((n = recv(socket_.get(), stale.data(), stale.size(), MSG_DONTWAIT)) > 0) continue;
      if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) socket_ = vmm::ScopedFd();
    }
    if (!socket_ && !connect(deadline, give_up, result)) return done(true);
    result.connected = true;
    if (spec_.send.empty()) {
      result.kind = ProbeResult::Kind::kAnswered;
      return done(true);
    }
    bool gone = send(socket_.get(), spec_.send.data(), spec_.send.size(), MSG_NOSIGNAL) !=
                static_cast<ssize_t>(spec_.send.size());
    std::string answer;
    while (!gone && answer.size() < spec_.expect.size()) {
      int const waited = wait_for(socket_.get(), POLLIN, deadline, give_up);
      if (waited <= 0) {
        if (waited < 0) result.kind = ProbeResult::Kind::kGivenUp;
        int unsent = 0;
        // Bytes that the other side's TCP has not acknowledged (tcp(7), SIOCOUTQ).
        if (ioctl(socket_.get(), SIOCOUTQ, &unsent) == 0) result.unacknowledged = unsent > 0;
        return done(waited == 0);
      }
      std::array<char, 512> buffer;
      ssize_t const n = recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      gone = n <= 0;
      if (n > 0) answer.append(buffer.data(), static_cast<size_t>(n));
    }
    if (gone) {
      socket_ = vmm::ScopedFd();
      if (kept && attempt == 0) continue;
      return done(true);
    }
    if (!answer.starts_with(spec_.expect)) {
      result.wrong = true;
      return done(true);
    }
    result.kind = ProbeResult::Kind::kAnswered;
    return done(!spec_.keep);
  }
}

bool accept_queue_full(sockaddr_in const& address) {
  vmm::ScopedFd const link(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (!link) return false;
  for (uint8_t const family : {AF_INET, AF_INET6}) {
    struct {
      nlmsghdr header;
      inet_diag_req_v2 request;
    } ask{};
    ask.header.nlmsg_len = sizeof ask;
    ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    ask.request.sdiag_family = family;
    ask.request.sdiag_protocol = IPPROTO_TCP;
    ask.request.idiag_states = 1U << TCP_LISTEN;
    if (::send(link.get(), &ask, sizeof ask, 0) < 0) return false;
    alignas(nlmsghdr) std::array<char, 32768> buffer;
    for (bool more = true; more;) {
      pollfd p{link.get(), POLLIN, 0};
      if (poll(&p, 1, 100) != 1) break;
      ssize_t const n = recv(link.get(), buffer.data(), buffer.size(), 0);
      if (n <= 0) break;
      auto left = static_cast<unsigned>(n);
      for (auto* m = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
        if (m->nlmsg_type == NLMSG_DONE || m->nlmsg_type == NLMSG_ERROR) {
          more = false;
          break;
        }
        auto const* const found = static_cast<inet_diag_msg const*>(NLMSG_DATA(m));
        // For a listening socket: connections that wait, and how many may (net/ipv4/inet_diag.c).
        if (found->id.idiag_sport == address.sin_port && found->idiag_rqueue >= found->idiag_wqueue) return true;
      }
    }
  }
  return false;
}

}  // namespace vmsrs::runtime::detect
