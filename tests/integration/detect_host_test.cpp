// links: vmm
// The host layer, and cases that need a network of their own: real ICMP, a simulated power controller, cut paths and
// starved VMs. "Hosts" are addresses on the loopback device of a network namespace that the test makes.
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <cstring>

#include "tests/integration/detect_run.hpp"

namespace {

using detect_test::DetectRun;
using detect_test::now_ns;
using detect_test::sleep_ms;
using detect_test::Words;
namespace fs = std::filesystem;

class DetectHost : public DetectRun {
 protected:
  void SetUp() override {
    DetectRun::SetUp();
    if (IsSkipped()) return;
    if (unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "needs a network namespace (root)";
    set_loopback(true);
  }
  static void set_flags(char const* device, bool up) {
    int const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
    EXPECT_EQ(ioctl(fd, SIOCGIFFLAGS, &request), 0);
    request.ifr_flags = static_cast<short>(up ? request.ifr_flags | IFF_UP : request.ifr_flags & ~IFF_UP);
    EXPECT_EQ(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
  }
  static void set_loopback(bool up) { set_flags("lo", up); }
  // An alias of the loopback device: an address that answers ICMP echo, or does so no more.
  static void host(char const* alias, char const* address) {
    int const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::strncpy(request.ifr_name, alias, IFNAMSIZ - 1);
    auto* const at = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
    at->sin_family = AF_INET;
    inet_pton(AF_INET, address, &at->sin_addr);
    EXPECT_EQ(ioctl(fd, SIOCSIFADDR, &request), 0);
    at->sin_addr.s_addr = 0xffffffff;
    EXPECT_EQ(ioctl(fd, SIOCSIFNETMASK, &request), 0);
    close(fd);
  }
  void power(std::string const& host, std::string const& state) const {
    std::ofstream(scratch + "/power/" + host) << state;
  }
};

// Table 3, host: switched off, and there without an answer.
TEST_F(DetectHost, AHostWithoutPowerIsSfAndOneWithPowerIsNrf) {
  fs::create_directory(scratch + "/power");
  for (char const* name : {"h1", "h2", "h3"}) power(name, "on");
  host("lo:1", "10.77.0.1"), host("lo:2", "10.77.0.2"), host("lo:3", "10.77.0.3");
  Words const hosts{"--host",        "h1=10.77.0.1", "--host",         "h2=10.77.0.2",
                    "--host",        "h3=10.77.0.3", "--host-timeout", "300",
                    "--host-period", "100",          "--power",        "sim:" + scratch + "/power"};
  pid_t const master = detectd(hosts);
  detectd(hosts);
  ASSERT_TRUE(wait([&] {
    auto const tree = status();
    return tree["hosts"].size() == 3 && tree["hosts"][2]["class"] == "healthy";
  }));
  power("h1", "off");
  set_flags("lo:1", false);
  auto const off = expect("host", "h1", "SF", "power-off");
  set_flags("lo:2", false);
  uint64_t const then = now_ns();
  auto const silent = expect("host", "h2", "NRF", "unreachable");
  EXPECT_LE(ms_after(then, silent), (300 + 500) * std::stod(vmsrs_test::limit(1)));
  // The backup goes on where the master left it: what is known is no news, what comes is.
  end(master);
  expect("detector", "master", "SF", "detector-lost");
  host("lo:2", "10.77.0.2");
  expect("host", "h2", "healthy", "none");
  EXPECT_EQ(failures(), (Words{"host h1 SF power-off", "host h2 NRF unreachable",
                               fmt::format("detector master {} SF detector-lost", master)}))
      << said();
  (void)off;
}

TEST_F(DetectHost, APathThatWasCutIsHalfOpen) {
  detectd();
  serve("shop", 8, {}, "&keep=1");
  uint64_t const then = now_ns();
  set_loopback(false);
  auto const event = expect("application", "web", "NRF", "half-open");
  EXPECT_LE(ms_after(then, event), (timeout_ms + 500) * std::stod(vmsrs_test::limit(1)));
  set_loopback(true);
  expect("application", "web", "healthy", "none");
  EXPECT_EQ(failures(), Words{"application web NRF half-open"}) << said();
}

// Two hosts, each with a registry of its own, and an etcd that both see: who watches the hosts, and who takes over.
TEST_F(DetectHost, OfSeveralHostsOneDetectorWatches) {
  int const client = free_port(), peer = free_port();
  std::string const urls = fmt::format("http://127.0.0.1:{}", client), peers = fmt::format("http://127.0.0.1:{}", peer);
  pid_t const etcd = fork();
  if (etcd == 0) {
    int const null = open("/dev/null", O_RDWR);
    dup2(null, 1), dup2(null, 2);
    execlp("etcd", "etcd", "--data-dir", (scratch + "/etcd").c_str(), "--listen-client-urls", urls.c_str(),
           "--advertise-client-urls", urls.c_str(), "--listen-peer-urls", peers.c_str(),
           "--initial-advertise-peer-urls", peers.c_str(), "--initial-cluster", ("default=" + peers).c_str(),
           "--unsafe-no-fsync", nullptr);
    _exit(99);
  }
  children.push_back(etcd);
  ASSERT_TRUE(wait([&] {
    int const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<uint16_t>(client));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // It listens before it has elected itself: only then it answers.
    std::string const ask = "POST /v3/kv/range HTTP/1.0\r\nContent-Length: 14\r\n\r\n{\"key\":\"AA==\"}";
    char answer[64] = {};
    pollfd p{fd, POLLIN, 0};
    bool const up = connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0 &&
                    write(fd, ask.data(), ask.size()) == static_cast<ssize_t>(ask.size()) && poll(&p, 1, 2000) == 1 &&
                    read(fd, answer, sizeof answer - 1) > 0 && std::strstr(answer, " 200 ") != nullptr;
    close(fd);
    return up;
  })) << "needs etcd-server";
  fs::create_directory(scratch + "/power");
  power("h1", "off");
  host("lo:1", "10.77.1.1");
  Words const words{"--coordinator",  fmt::format("etcd://127.0.0.1:{}/test", client),
                    "--host",         "h1=10.77.1.1",
                    "--host-timeout", "300",
                    "--host-period",  "100",
                    "--power",        "sim:" + scratch + "/power"};
  std::string const first_registry = registry;
  pid_t const first = detectd(words);
  expect("detector", fmt::format("master of the hosts {}", first), "healthy", "none");
  registry = first_registry + "-2";
  pid_t const second = detectd(words);
  expect("detector", fmt::format("backup of the hosts {}", second), "healthy", "none");
  end(first);
  expect("detector", "master of the hosts", "NRF", "detector-silent");
  expect("detector", fmt::format("master of the hosts {}", second), "healthy", "none");
  ASSERT_TRUE(wait([&] { return !status()["hosts"].empty() && status()["hosts"][0]["class"] == "healthy"; }));
  set_flags("lo:1", false);
  expect("host", "h1", "SF", "power-off");
  EXPECT_EQ(failures(), (Words{"detector master of the hosts NRF detector-silent", "host h1 SF power-off"})) << said();
  fs::remove("/dev/shm/" + first_registry);
}

// Table 3, VM: a program computes until nothing is left of the VM's processor: here a share of a cgroup.
TEST_F(DetectHost, AVmWhoseProcessorIsUsedUpIsNrf) {
  std::string const group = "/sys/fs/cgroup/cpu/vmsrs-test-" + std::to_string(getpid());
  std::error_code error;
  if (!fs::exists("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", error) || !fs::create_directory(group, error)) {
    GTEST_SKIP() << "needs the cpu controller of cgroup v1";
  }
  auto const set = [&](char const* file, std::string const& value) {
    std::ofstream to(group + "/" + file);
    to << value << std::flush;
    return to.good();
  };
  detectd({"--vm-timeout", "500"});
  pid_t const vm = serve("shop");
  make("spin");
  expect("application", "web", "NRF", "spinning");
  ASSERT_TRUE(set("cpu.cfs_period_us", "1000000"));
  ASSERT_TRUE(set("cpu.cfs_quota_us", "1000"));
  ASSERT_TRUE(set("cgroup.procs", std::to_string(vm)));
  auto const event = expect("vm", "shop", "NRF", "starved");
  EXPECT_TRUE(event);
  set("cpu.cfs_quota_us", "-1");
  end(vm);
  for (int i = 0; i < 100 && !fs::remove(group, error); ++i) sleep_ms(20);
}

}  // namespace
