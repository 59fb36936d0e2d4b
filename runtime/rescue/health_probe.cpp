#include "runtime/rescue/health_probe.hpp"

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime {
using Clock = std::chrono::steady_clock;

HealthProbe::HealthProbe(uint64_t limit_ms, std::function<void(std::string const&)> failed)
    : limit_ms_(limit_ms), failed_(std::move(failed)) {}

HealthProbe::~HealthProbe() {
  stop();
}

void HealthProbe::listening(int host_fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(host_fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return;
  if (address.ss_family == AF_INET) {
    auto& in = reinterpret_cast<sockaddr_in&>(address);
    if (in.sin_addr.s_addr == INADDR_ANY) in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  } else if (address.ss_family == AF_INET6) {
    auto& in = reinterpret_cast<sockaddr_in6&>(address);
    if (IN6_IS_ADDR_UNSPECIFIED(&in.sin6_addr)) in.sin6_addr = in6addr_loopback;
  } else if (address.ss_family != AF_UNIX) {
    return;
  }
  std::lock_guard const lock(mutex_);
  if (address_size_ != 0 && (address_.ss_family == AF_UNIX || address.ss_family != AF_UNIX)) return;
  address_ = address;
  address_size_ = size;
}

void HealthProbe::question(std::string send, std::string expect) {
  std::lock_guard const lock(mutex_);
  send_ = std::move(send);
  expect_ = std::move(expect);
  known_ = true;
}

void HealthProbe::ask() {
  std::lock_guard const lock(mutex_);
  if (stopping_ || !known_ || address_size_ == 0 || limit_ms_ == 0) return;
  wanted_ = true;
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  wake_.notify_one();
}

void HealthProbe::stop() {
  {
    std::lock_guard const lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

// Waits until the socket is ready; false: not before `end`. Told to stop it says yes: nobody wants to know any more.
bool HealthProbe::ready(int fd, short events, Clock::time_point end) const {
  constexpr auto kLook = std::chrono::milliseconds(50);
  for (;;) {
    if (stopping_) return true;
    auto const left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) return false;
    pollfd one{fd, events, 0};
    if (poll(&one, 1, static_cast<int>(std::min(left, kLook).count())) > 0) return true;
  }
}

void HealthProbe::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return wanted_ || stopping_.load(); });
    if (stopping_) return;
    wanted_ = false;
    lock.unlock();
    std::string const wrong = probe();
    lock.lock();
    if (wrong.empty() || stopping_) continue;
    lock.unlock();
    failed_(wrong);
    return;
  }
}

// Empty: the server answered.
std::string HealthProbe::probe() {
  std::unique_lock lock(mutex_);
  sockaddr_storage const address = address_;
  socklen_t const size = address_size_;
  std::string const send = send_, expect = expect_;
  lock.unlock();
  asked_.fetch_add(1);
  auto const end = Clock::now() + std::chrono::milliseconds(limit_ms_);
  vmm::ScopedFd const link(socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (link.get() < 0) return {};  // the monitor's own want of descriptors says nothing of the server
  if (connect(link.get(), reinterpret_cast<sockaddr const*>(&address), size) != 0) {
    if (errno != EINPROGRESS && errno != EAGAIN) return fmt::format("connect: {}", std::strerror(errno));
    if (!ready(link.get(), POLLOUT, end)) return "no connection in time";
  }
  if (!send.empty() && ::send(link.get(), send.data(), send.size(), MSG_NOSIGNAL) < 0)
    return fmt::format("send: {}", std::strerror(errno));
  std::string answer;
  size_t const wanted = expect.empty() ? 1 : expect.size();
  while (answer.size() < wanted) {
    char bytes[512];
    if (stopping_) return {};
    if (!ready(link.get(), POLLIN, end)) return "no answer in time";
    ssize_t const n = recv(link.get(), bytes, sizeof bytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    // Closed without a word: a server that has too many connections does that, and lives.
    if (n <= 0) return {};
    answer.append(bytes, static_cast<size_t>(n));
  }
  return answer.starts_with(expect) ? std::string() : "another answer than expected";
}

}  // namespace vmsrs::runtime
