#include "runtime/detect/host_detector.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "runtime/detect/proc.hpp"

namespace vmsrs::runtime::detect {
namespace {

uint16_t checksum(void const* data, size_t size) {
  auto const* bytes = static_cast<uint8_t const*>(data);
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < size; i += 2) sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return htons(static_cast<uint16_t>(~sum));
}

}  // namespace

vmm::Result<HostAddress> HostAddress::parse(std::string const& text) {
  size_t const equals = text.find('=');
  HostAddress host;
  if (equals == std::string::npos || equals == 0 ||
      inet_pton(AF_INET, text.substr(equals + 1).c_str(), &host.address) != 1) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("--host {}: NAME=ADDRESS is needed, an IPv4 address", text));
  }
  host.name = text.substr(0, equals);
  if (host.name.find_first_of("/ \t'\"\\;&|$`") != std::string::npos) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("--host {}: '{}' is no name for a host", text, host.name));
  }
  return host;
}

vmm::Result<Pinger> Pinger::open() {
  Pinger p;
  p.socket_ = vmm::ScopedFd(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP));
  p.raw_ = static_cast<bool>(p.socket_);
  if (!p.raw_) p.socket_ = vmm::ScopedFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP));
  if (!p.socket_) return vmm::fail_host("--host: an ICMP socket (needs CAP_NET_RAW, or net.ipv4.ping_group_range)");
  p.id_ = static_cast<uint16_t>(getpid());
  return p;
}

std::vector<uint64_t> Pinger::ask(std::vector<HostAddress> const& hosts, uint64_t timeout_ms) {
  std::vector<uint64_t> took(hosts.size(), 0);
  uint16_t const first = static_cast<uint16_t>(sequence_ + 1);
  sequence_ = static_cast<uint16_t>(sequence_ + hosts.size());
  uint64_t const begin = now_ns();
  for (size_t i = 0; i < hosts.size(); ++i) {
    icmphdr packet{};
    packet.type = ICMP_ECHO;
    packet.un.echo.id = htons(id_);
    packet.un.echo.sequence = htons(static_cast<uint16_t>(first + i));
    packet.checksum = checksum(&packet, sizeof packet);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr = hosts[i].address;
    // Fails where the way there is down: that host does not answer then.
    (void)sendto(socket_.get(), &packet, sizeof packet, 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
  }
  uint64_t const deadline = begin + timeout_ms * 1'000'000;
  for (size_t missing = hosts.size(); missing > 0;) {
    uint64_t const now = now_ns();
    pollfd p{socket_.get(), POLLIN, 0};
    // When it is too late, what lies there already still counts: the detector was late, not the host.
    int const left = now < deadline ? static_cast<int>((deadline - now) / 1'000'000 + 1) : 0;
    if (poll(&p, 1, left) <= 0) {
      if (now >= deadline) break;
      continue;
    }
    std::array<char, 1500> buffer;
    sockaddr_in from{};
    socklen_t size = sizeof from;
    ssize_t const n =
        recvfrom(socket_.get(), buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
    size_t const skip = raw_ && n > 0 ? static_cast<size_t>(buffer[0] & 0xf) * 4 : 0;
    icmphdr reply{};
    if (n < static_cast<ssize_t>(skip + sizeof reply)) continue;
    std::memcpy(&reply, buffer.data() + skip, sizeof reply);
    auto const index = static_cast<uint16_t>(ntohs(reply.un.echo.sequence) - first);
    if (reply.type != ICMP_ECHOREPLY || (raw_ && reply.un.echo.id != htons(id_)) || index >= hosts.size()) continue;
    if (from.sin_addr.s_addr != hosts[index].address.s_addr || took[index] != 0) continue;
    took[index] = std::max<uint64_t>(1, (now_ns() - begin) / 1000);
    --missing;
  }
  return took;
}

HostDetector::HostDetector(Options options, Pinger pinger, std::unique_ptr<PowerController> power,
                           RegistryLayout& layout, EventLog& events, std::function<bool()> may_act)
    : options_(std::move(options)),
      pinger_(std::move(pinger)),
      power_(std::move(power)),
      layout_(layout),
      events_(events),
      may_act_(std::move(may_act)) {
  if (!options_.hosts.empty()) thread_ = std::thread([this] { run(); });
}

HostDetector::~HostDetector() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void HostDetector::run() {
  pthread_setname_np(pthread_self(), "host-detector");
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    if (may_act_()) round();
    lock.lock();
    wake_.wait_for(lock, std::chrono::milliseconds(options_.period_ms), [this] { return stopping_; });
  }
}

void HostDetector::round() {
  auto const took = pinger_.ask(options_.hosts, options_.timeout_ms);
  for (size_t i = 0; i < options_.hosts.size() && i < kMaxHosts; ++i) {
    HostAddress const& host = options_.hosts[i];
    HostRecord& record = layout_.hosts[i];
    if (record.used.load() == 0 || record.name.get() != host.name) {
      record.name.set(host.name);
      std::array<char, INET_ADDRSTRLEN> text{};
      record.address.set(inet_ntop(AF_INET, &host.address, text.data(), text.size()));
      record.answered_ns = 0;
      publish(record.verdict, {}, 0);
      record.used = 1;
    }
    HostEvidence evidence;
    evidence.answered = took[i] != 0;
    evidence.waited_ms = options_.timeout_ms;
    if (evidence.answered) {
      record.answered_ns = now_ns();
      record.answer_us = took[i];
    } else {
      evidence.power = power_->state(host.name, options_.timeout_ms);
    }
    Verdict const before = read(record.verdict), now = judge_host(evidence);
    if (!may_act_()) return;
    if (publish(record.verdict, now, now_ns()) && (now.failed() || before.failed())) {
      events_.say({"host", "", host.name, now, before.failure});
    }
  }
}

}  // namespace vmsrs::runtime::detect
