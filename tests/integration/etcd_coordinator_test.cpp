// links: vmsrs_lease
// The lease in a real etcd: one member, and three of which one is killed, then another.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "runtime/lease/coordinator.hpp"

extern char** environ;

namespace {

using vmsrs::runtime::Coordinator;
using vmsrs::runtime::PartRole;
using vmsrs::runtime::Term;
using namespace std::chrono_literals;

uint16_t free_port() {
  int const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

class Members {
 public:
  // Every member answers. A port that was free may be somebody else's by the time its member asks for it: then all are
  // started again on other ports.
  explicit Members(int count) {
    for (int tries = 0; tries < 5 && !ready_; ++tries) {
      stop_all();
      start(count);
      ready_ = all_answer();
    }
  }
  ~Members() { stop_all(); }
  void stop(size_t i) {
    if (pids_[i] <= 0) return;
    kill(pids_[i], SIGKILL);
    waitpid(pids_[i], nullptr, 0);
    pids_[i] = -1;
  }
  // It runs for a moment at a time, as on a machine whose disk or processors are busy.
  void run_now_and_then(size_t i, std::chrono::milliseconds stopped, std::chrono::milliseconds running, int times) {
    for (int n = 0; n < times; ++n) {
      kill(pids_[i], SIGSTOP);
      std::this_thread::sleep_for(stopped);
      kill(pids_[i], SIGCONT);
      std::this_thread::sleep_for(running);
    }
  }
  // Null: none answers, or not all did at the start.
  std::unique_ptr<Coordinator> open() {
    if (!ready_) return nullptr;
    std::string url = "etcd://";
    for (size_t i = 0; i < clients_.size(); ++i) url += (i == 0 ? "" : ",") + address(i);
    auto opened = vmsrs::runtime::open_coordinator(url + "/test");
    return opened ? std::move(*opened) : nullptr;
  }

 private:
  [[nodiscard]] std::string address(size_t i) const { return "127.0.0.1:" + std::to_string(clients_[i]); }
  void start(int count) {
    std::string cluster;
    for (int i = 0; i < count; ++i) {
      clients_.push_back(free_port());
      peers_.push_back(free_port());
      cluster += (i == 0 ? "m" : ",m") + std::to_string(i) + "=http://127.0.0.1:" + std::to_string(peers_.back());
    }
    for (int i = 0; i < count; ++i) {
      std::string const client = "http://127.0.0.1:" + std::to_string(clients_[static_cast<size_t>(i)]);
      std::string const peer = "http://127.0.0.1:" + std::to_string(peers_[static_cast<size_t>(i)]);
      std::string const name = "m" + std::to_string(i);
      directories_.push_back(testing::TempDir() + "vmsrs-etcd-" + std::to_string(getpid()) + "-" + name);
      std::filesystem::remove_all(directories_.back());
      std::vector<std::string> words = {"etcd",
                                        "--name",
                                        name,
                                        "--data-dir",
                                        directories_.back(),
                                        "--listen-client-urls",
                                        client,
                                        "--advertise-client-urls",
                                        client,
                                        "--listen-peer-urls",
                                        peer,
                                        "--initial-advertise-peer-urls",
                                        peer,
                                        "--initial-cluster",
                                        cluster,
                                        "--unsafe-no-fsync"};
      std::vector<char*> argv;
      for (auto& word : words) argv.push_back(word.data());
      argv.push_back(nullptr);
      posix_spawn_file_actions_t actions;
      posix_spawn_file_actions_init(&actions);
      posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
      pid_t pid = -1;
      if (posix_spawnp(&pid, "etcd", &actions, nullptr, argv.data(), environ) != 0) pid = -1;
      posix_spawn_file_actions_destroy(&actions);
      pids_.push_back(pid);
    }
  }
  // False: one has ended, or does not answer in time.
  bool all_answer() {
    auto const until = std::chrono::steady_clock::now() + 30s;
    for (size_t i = 0; i < pids_.size(); ++i) {
      while (!vmsrs::runtime::open_coordinator("etcd://" + address(i) + "/test")) {
        if (pids_[i] <= 0 || waitpid(pids_[i], nullptr, WNOHANG) != 0) {
          pids_[i] = -1;
          return false;
        }
        if (std::chrono::steady_clock::now() > until) return false;
        std::this_thread::sleep_for(50ms);
      }
    }
    return true;
  }
  void stop_all() {
    for (size_t i = 0; i < pids_.size(); ++i) stop(i);
    for (auto const& directory : directories_) std::filesystem::remove_all(directory);
    clients_.clear();
    peers_.clear();
    directories_.clear();
    pids_.clear();
  }

  std::vector<uint16_t> clients_, peers_;
  std::vector<std::string> directories_;
  std::vector<pid_t> pids_;
  bool ready_ = false;
};

bool no_etcd() {
  return std::system("etcd --version >/dev/null 2>&1") != 0;
}

TEST(EtcdCoordinator, OneHolderTermsGrowAndALeaseRunsOut) {
  if (no_etcd()) GTEST_SKIP() << "needs etcd (Debian: etcd-server)";
  Members members(1);
  auto const a = members.open(), b = members.open();
  ASSERT_TRUE(a && b);
  EXPECT_FALSE(a->look()->held);
  auto const got = a->acquire(2s);
  ASSERT_TRUE(got && *got) << got.error().message;
  Term const first = **got;
  EXPECT_FALSE(b->acquire(2s)->has_value());
  EXPECT_TRUE(*a->renew(first, 2s));
  EXPECT_EQ(b->look()->term, first);

  ASSERT_TRUE(b->revoke(first, false));
  EXPECT_FALSE(b->look()->held);
  EXPECT_TRUE(b->look()->revoked);
  EXPECT_FALSE(b->look()->replay);
  Term const second = b->acquire(2s)->value();
  EXPECT_GT(second, first);
  EXPECT_FALSE(*a->renew(first, 2s)) << "its lease lives in etcd, but its term is over";
  ASSERT_TRUE(a->revoke(first, true)) << "an old term's revoke must not touch the new one";
  EXPECT_TRUE(*b->renew(second, 2s));

  // b falls asleep.
  auto const until = std::chrono::steady_clock::now() + 15s;
  while (a->look()->held && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(100ms);
  Term const third = a->acquire(2s)->value();
  EXPECT_GT(third, second);
  EXPECT_FALSE(*b->renew(second, 2s)) << "it woke up";

  ASSERT_TRUE(a->announce(PartRole::kBackup, "127.0.0.1:7001"));
  ASSERT_TRUE(b->announce(PartRole::kBackup, "127.0.0.1:7002"));
  EXPECT_EQ(a->find(PartRole::kBackup)->size(), 2U);
  EXPECT_TRUE(a->find(PartRole::kGateway)->empty());
  ASSERT_TRUE(b->withdraw());
  EXPECT_EQ(*a->find(PartRole::kBackup), std::vector<std::string>{"127.0.0.1:7001"});
}

TEST(EtcdCoordinator, APartThatStartsWaitsForALateMember) {
  if (no_etcd()) GTEST_SKIP() << "needs etcd (Debian: etcd-server)";
  Members members(1);
  auto const b = members.open();
  ASSERT_TRUE(b);
  std::jthread late([&] { members.run_now_and_then(0, 900ms, 2ms, 5); });
  std::this_thread::sleep_for(50ms);
  auto const began = std::chrono::steady_clock::now();
  auto const a = members.open();
  ASSERT_TRUE(a);
  auto const got = a->acquire(30s);
  ASSERT_TRUE(got) << got.error().message;
  ASSERT_TRUE(*got) << "an answer that came too late was its own";
  EXPECT_GT(std::chrono::steady_clock::now() - began, 700ms) << "nothing was late";
  late.join();
  EXPECT_EQ(b->look()->term, **got);
  EXPECT_TRUE(*a->renew(**got, 30s));
  members.stop(0);
  auto const gone = std::chrono::steady_clock::now();
  EXPECT_FALSE(a->renew(**got, 30s));
  EXPECT_LT(std::chrono::steady_clock::now() - gone, 3s) << "one that holds a lease has no time to wait";
}

TEST(EtcdCoordinator, OfThreeMembersOneMayDieNotTwo) {
  if (no_etcd()) GTEST_SKIP() << "needs etcd (Debian: etcd-server)";
  Members members(3);
  auto const a = members.open(), b = members.open();
  ASSERT_TRUE(a && b);
  auto const got = a->acquire(5s);
  ASSERT_TRUE(got && *got) << got.error().message;
  Term const first = **got;
  members.stop(0);
  auto const until = std::chrono::steady_clock::now() + 20s;
  bool kept = false;
  while (!kept && std::chrono::steady_clock::now() < until) {
    auto const renewed = a->renew(first, 5s);
    ASSERT_TRUE(!renewed || *renewed) << "a member died, and the lease was called over";
    kept = renewed.has_value();
  }
  EXPECT_TRUE(kept) << "two of three members are enough";
  EXPECT_FALSE(b->acquire(5s)->has_value());
  ASSERT_TRUE(b->revoke(first, true));
  EXPECT_GT(b->acquire(5s)->value(), first);
  members.stop(1);
  EXPECT_FALSE(a->acquire(5s)) << "one of three must give nothing away";
}

}  // namespace
