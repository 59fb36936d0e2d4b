// links: vmsrs_detect
// How an application is asked: URLs, and real sockets that answer, are slow, silent, closed, or full.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "runtime/detect/host_detector.hpp"
#include "runtime/detect/power.hpp"
#include "runtime/detect/probe.hpp"

namespace {

using namespace vmsrs::runtime::detect;
using Kind = ProbeResult::Kind;

// A listening socket of loopback, and a thread that serves what it accepts by `serve`.
class Listener {
 public:
  explicit Listener(int backlog, std::function<void(int)> const& serve = {}) {
    socket_ = vmm::ScopedFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(socket_.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    EXPECT_EQ(listen(socket_.get(), backlog), 0);
    socklen_t size = sizeof at;
    getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&at), &size);
    address = at;
    if (!serve) return;
    thread_ = std::thread([this, serve] {
      for (;;) {
        vmm::ScopedFd const client(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!client) return;
        serve(client.get());
      }
    });
  }
  ~Listener() {
    shutdown(socket_.get(), SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] std::string url(std::string const& options = "") const {
    return fmt::format("tcp://127.0.0.1:{}{}", ntohs(address.sin_port), options);
  }
  sockaddr_in address{};

 private:
  vmm::ScopedFd socket_;
  std::thread thread_;
};

std::string const kAsk = "?send=PING%0a&expect=PONG";

bool read_line(int fd) {
  char c = 0;
  while (read(fd, &c, 1) == 1) {
    if (c == '\n') return true;
  }
  return false;
}

ProbeResult ask(std::string const& url, uint64_t timeout_ms) {
  auto const spec = ProbeSpec::parse(url);
  EXPECT_TRUE(spec) << spec.error().message;
  return Prober(*spec).ask(timeout_ms, {});
}

TEST(DetectProbe, UrlsAreReadOrRefusedWithTheReason) {
  auto const tcp = ProbeSpec::parse("tcp://127.0.0.1:11211?send=version%0d%0a&expect=VERSION&keep=1");
  ASSERT_TRUE(tcp);
  EXPECT_EQ(tcp->send, "version\r\n");
  EXPECT_EQ(tcp->expect, "VERSION");
  EXPECT_TRUE(tcp->keep);
  auto const http = ProbeSpec::parse("http://localhost:8080/health?deep=1");
  ASSERT_TRUE(http);
  EXPECT_EQ(http->send.rfind("GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n", 0), 0u);
  for (auto const& [bad, why] :
       std::initializer_list<std::pair<char const*, char const*>>{{"", "tcp://HOST:PORT"},
                                                                  {"udp://1.2.3.4:5", "tcp://HOST:PORT"},
                                                                  {"tcp://1.2.3.4", "port is missing"},
                                                                  {"tcp://1.2.3.4:0", "no port"},
                                                                  {"tcp://1.2.3.4:65536", "no port"},
                                                                  {"tcp://1.2.3.4:8x", "no port"},
                                                                  {"tcp://example:80", "no IPv4 address"},
                                                                  {"tcp://1.2.3.4:80/x", "no path"},
                                                                  {"tcp://1.2.3.4:80?send=x", "go together"},
                                                                  {"tcp://1.2.3.4:80?keep=1", "keep=1 needs"},
                                                                  {"tcp://1.2.3.4:80?keep=2", "none of"},
                                                                  {"tcp://1.2.3.4:80?send=%4&expect=a", "hexadecimal"},
                                                                  {"tcp://1.2.3.4:80?what", "KEY=VALUE"}}) {
    auto const parsed = ProbeSpec::parse(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_NE(parsed.error().message.find(why), std::string::npos) << parsed.error().message;
  }
}

TEST(DetectProbe, AnAnswerInTimeIsAnAnswerHoweverSlow) {
  Listener const slow(8, [](int fd) {
    if (!read_line(fd)) return;
    for (char const c : {'P', 'O', 'N', 'G'}) {
      std::this_thread::sleep_for(std::chrono::milliseconds(40));
      (void)!write(fd, &c, 1);
    }
  });
  ProbeResult const result = ask(slow.url(kAsk), 20'000);
  EXPECT_EQ(result.kind, Kind::kAnswered);
  EXPECT_GE(result.took_us, 150'000u);
}

TEST(DetectProbe, SilenceAndAWrongAnswerAreNone) {
  Listener const silent(8);
  ProbeResult const none = ask(silent.url(kAsk), 60);
  EXPECT_EQ(none.kind, Kind::kNoAnswer);
  EXPECT_TRUE(none.connected);
  EXPECT_FALSE(none.unacknowledged) << "its kernel has it";
  Listener const wrong(8, [](int fd) { (void)!write(fd, "ERROR\n", 6); });
  ProbeResult const other = ask(wrong.url(kAsk), 20'000);
  EXPECT_EQ(other.kind, Kind::kNoAnswer);
  EXPECT_TRUE(other.wrong);
  Listener const closes(8, [](int) {});
  EXPECT_EQ(ask(closes.url(kAsk), 20'000).kind, Kind::kNoAnswer);
}

TEST(DetectProbe, NobodyListensIsSaidAtOnce) {
  std::string url;
  {
    Listener const gone(1);
    url = gone.url(kAsk);
  }
  EXPECT_EQ(ask(url, 20'000).kind, Kind::kRefused);
}

TEST(DetectProbe, AKeptConnectionIsOneAndIsMadeAnewWhenTheServerClosedIt) {
  std::atomic<int> accepted{0};
  Listener const two_each(8, [&](int fd) {
    ++accepted;
    for (int i = 0; i < 2 && read_line(fd); ++i) (void)!write(fd, "PONG and more\n", 14);
  });
  Prober prober(*ProbeSpec::parse(two_each.url(kAsk + "&keep=1")));
  for (int i = 0; i < 6; ++i) EXPECT_EQ(prober.ask(20'000, {}).kind, Kind::kAnswered) << i;
  EXPECT_EQ(accepted.load(), 3);
}

TEST(DetectProbe, GivingUpEndsTheWait) {
  Listener const silent(8);
  Prober prober(*ProbeSpec::parse(silent.url(kAsk)));
  int asked = 0;
  EXPECT_EQ(prober.ask(20'000, [&] { return ++asked == 3; }).kind, Kind::kGivenUp);
}

TEST(DetectProbe, AFullQueueOfConnectionsIsSeen) {
  Listener const full(2);
  EXPECT_FALSE(accept_queue_full(full.address));
  std::vector<vmm::ScopedFd> clients;
  for (int i = 0; i < 8; ++i) {
    vmm::ScopedFd client(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    (void)!connect(client.get(), reinterpret_cast<sockaddr const*>(&full.address), sizeof full.address);
    clients.push_back(std::move(client));
  }
  bool seen = false;
  for (int i = 0; i < 200 && !seen; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    seen = accept_queue_full(full.address);
  }
  EXPECT_TRUE(seen);
  EXPECT_EQ(ask(full.url(kAsk), 60).connected, false);
}

TEST(DetectPower, ControllersAreReadOrRefused) {
  EXPECT_EQ((*make_power_controller("none"))->state("a", 100), Power::kUnknown);
  EXPECT_EQ((*make_power_controller("command:echo Chassis Power is off"))->state("a", 5000), Power::kOff);
  EXPECT_EQ((*make_power_controller("command:echo {host} on, was off. {host} is ON."))->state("h1", 5000), Power::kOn);
  EXPECT_EQ((*make_power_controller("command:false"))->state("a", 5000), Power::kUnknown);
  EXPECT_EQ((*make_power_controller("command:sleep 100"))->state("a", 50), Power::kUnknown)
      << "it answers in time or not";
  for (char const* bad : {"sim:/nonexistent", "ipmi", "command:"}) EXPECT_FALSE(make_power_controller(bad)) << bad;
}

TEST(DetectHost, AddressesAreReadOrRefused) {
  EXPECT_EQ(HostAddress::parse("h1=10.0.0.1")->name, "h1");
  for (char const* bad : {"", "h1", "=10.0.0.1", "h1=", "h1=10.0.0", "h1;reboot=10.0.0.1", "../x=10.0.0.1"}) {
    EXPECT_FALSE(HostAddress::parse(bad)) << bad;
  }
}

}  // namespace
