// links: vmsrs_program nlohmann_json::nlohmann_json
// Rescue points: a server that knows nothing of libsrs (unmodified/kv_server.cpp) crashes for some of its clients. They
// lose their connections; the others' connections and all data stay right.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/time_scale.hpp"

namespace vmsrs_test {
namespace {

using Json = nlohmann::json;
constexpr char const* kRescued[] = {"read",  "write",  "wild",  "divide", "jump",   "recursion",
                                    "abort", "assert", "throw", "memcpy", "locked", "shared"};

class Client {
 public:
  explicit Client(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    timeval const limit{20, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(port));
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { close(fd_); }
  Client(Client const&) = delete;
  Client& operator=(Client const&) = delete;

  // "" if the server has closed the connection; "?" if it says nothing in time.
  std::string ask(std::string line) {
    line += '\n';
    if (!connected_ || send(fd_, line.data(), line.size(), MSG_NOSIGNAL) < 0) return "";
    std::string answer;
    for (char c = 0;;) {
      ssize_t const n = recv(fd_, &c, 1, 0);
      if (n < 0 && errno == EAGAIN) return "?";
      if (n <= 0) return "";
      if (c == '\n') return answer;
      answer += c;
    }
  }

 private:
  int fd_;
  bool connected_ = false;
};

class Rescue : public testing::TestWithParam<char const*> {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/kvm";
    char name[] = "/tmp/vmsrs-rescue-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override {
    if (pid_ > 0) end(SIGKILL);
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }

  void start(char const* kind, std::vector<std::string> const& more = {}) {
    auto const build = std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path();
    std::vector<std::string> words = {VMSRS_PROGRAM, "run", "--rescue", "guarded", "--report", dir_ / "report"};
    words.insert(words.end(), more.begin(), more.end());
    for (std::string const& word : {std::string("--"), (build / "guests/kv_server").string(), std::string(kind)})
      words.push_back(word);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    int out[2];
    ASSERT_EQ(pipe(out), 0);
    pid_ = fork();
    ASSERT_GE(pid_, 0);
    if (pid_ == 0) {
      dup2(out[1], 1);
      if (std::freopen((dir_ / "said").c_str(), "w", stderr) == nullptr) _exit(126);
      close(out[0]);
      close(out[1]);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(out[1]);
    out_ = fdopen(out[0], "r");
    read_port();
  }
  void read_port() { ASSERT_EQ(std::fscanf(out_, "%d", &port_), 1); }
  // The exit status as a shell has it, of a server that ends by itself or by `signal`.
  int end(int signal) {
    if (signal != 0) kill(pid_, signal);
    int status = 0;
    for (int i = 0; i < 3000 && waitpid(pid_, &status, WNOHANG) == 0; ++i) usleep(10'000);
    pid_ = -1;
    if (out_ != nullptr) std::fclose(out_);
    out_ = nullptr;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  std::vector<Json> faults() {
    std::vector<Json> found;
    std::ifstream lines(dir_ / "report");
    for (std::string line; std::getline(lines, line);) {
      Json json = Json::parse(line, nullptr, false);
      if (json.is_object() && json["type"] == "fault") found.push_back(json);
    }
    return found;
  }
  // Others' service and data, before and behind each crash.
  void crash_all(int rounds) {
    Client first(port_), second(port_);
    long set = 0;
    for (int round = 0; round < rounds; ++round) {
      for (char const* kind : kRescued) {
        std::string const key = std::string(kind) + std::to_string(round);
        Client crashing(port_);
        ASSERT_EQ(first.ask("set " + key + " before"), "ok") << key;
        ASSERT_EQ(crashing.ask("set own" + key + " mine"), "ok") << key;
        EXPECT_EQ(crashing.ask("crash " + std::string(kind)), "") << key;
        ASSERT_EQ(second.ask("get " + key), "before") << key;
        ASSERT_EQ(second.ask("get own" + key), "mine") << key;
        set += 2;
        ASSERT_EQ(second.ask("count"), std::to_string(set)) << key;
      }
    }
    auto const told = faults();
    EXPECT_EQ(told.size(), static_cast<size_t>(rounds) * std::size(kRescued));
    for (Json const& fault : told) EXPECT_EQ(fault["outcome"], "rescued") << fault.dump();
  }

  std::filesystem::path dir_;
  FILE* out_ = nullptr;
  int port_ = 0;
  pid_t pid_ = -1;
};

TEST_P(Rescue, OnlyTheCrashingConnectionIsLost) {
  start(GetParam());
  crash_all(3);
  EXPECT_EQ(end(SIGTERM), 128 + SIGTERM);
}

// Reads that a poller answers have landing pads too.
TEST_P(Rescue, WithExitlessCalls) {
  start(GetParam(), {"--pollers", "1", "--stats-json", dir_ / "stats"});
  {
    Client busy(port_);
    for (int i = 0; i < 300; ++i) ASSERT_EQ(busy.ask("get nothing"), "none");
  }
  crash_all(2);
  end(SIGTERM);
  std::ifstream file(dir_ / "stats");
  Json const stats = Json::parse(file, nullptr, false);
  ASSERT_TRUE(stats.is_object());
  if (stats["exitless"].value("recvfrom", 0) == 0) GTEST_SKIP() << "needs processor time for a poller";
}

TEST_P(Rescue, LocksOfARescuedThreadAreReleased) {
  start(GetParam());
  Client other(port_);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Client(port_).ask("crash shared"), "");
    ASSERT_EQ(other.ask("set a b"), "ok") << "needs both locks";
  }
  for (Json const& fault : faults()) EXPECT_EQ(fault["locks_released"], 2) << fault.dump();
}

// Where a rescue is not safe the server ends by the fault's signal, and the report says why.
TEST_P(Rescue, TheAllocatorIsNotLeftHalfway) {
  start(GetParam());
  EXPECT_EQ(Client(port_).ask("crash free"), "");
  EXPECT_EQ(end(0), 128 + SIGABRT);
  auto const told = faults();
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0]["outcome"], "not contained: not rescued: inside the C library's allocator") << told[0].dump();
}

TEST_P(Rescue, TheCLibrarysStreamsAreNotLeftHalfway) {
  start(GetParam());
  EXPECT_EQ(Client(port_).ask("crash stream"), "");
  EXPECT_EQ(end(0), 128 + SIGSEGV);
  auto const told = faults();
  ASSERT_EQ(told.size(), 1U);
  EXPECT_TRUE(told[0]["outcome"].get<std::string>().find("inside the C library: ") != std::string::npos)
      << told[0].dump();
}

TEST_P(Rescue, TooManyFaultsAtOnePlaceEndIt) {
  start(GetParam(), {"--rescue-loop", "5"});
  for (int i = 0; i < 6; ++i) EXPECT_EQ(Client(port_).ask("crash write"), "");
  EXPECT_EQ(end(0), 128 + SIGSEGV);
  auto const told = faults();
  ASSERT_EQ(told.size(), 6U);
  EXPECT_EQ(told[5]["outcome"], "not contained: not rescued: too many faults at one place");
}

TEST_P(Rescue, AServerThatEndedIsStartedAgain) {
  start(GetParam(), {"--restart"});
  EXPECT_EQ(Client(port_).ask("crash free"), "");
  read_port();
  EXPECT_EQ(Client(port_).ask("count"), "0");
  EXPECT_EQ(end(SIGTERM), 128 + SIGTERM);
}

std::string adapter() {
  return (std::filesystem::path(VMSRS_PROGRAM).parent_path().parent_path() / "lib/librescue_kv.so").string();
}

TEST_P(Rescue, TheAdapterCleansUp) {
  start(GetParam(), {"--rescue-adapter", adapter()});
  Client other(port_);
  for (int i = 1; i < 4; ++i) {
    EXPECT_EQ(Client(port_).ask("crash locked"), "");
    ASSERT_EQ(other.ask("cleaned"), std::to_string(i));
  }
}

TEST_P(Rescue, WhatTheAdapterNamesIsNotLeftHalfway) {
  start(GetParam(), {"--rescue-adapter", adapter()});
  EXPECT_EQ(Client(port_).ask("crash engine"), "");
  EXPECT_EQ(end(0), 128 + SIGSEGV);
  ASSERT_EQ(faults().size(), 1U);
  EXPECT_EQ(faults()[0]["outcome"], "not contained: not rescued: inside the engine: engine_write");
}

// A lock that nobody knows of is left behind: the server hangs, and is ended.
TEST_P(Rescue, AServerThatHangsFailsItsProbe) {
  start(GetParam(), {"--rescue-adapter", adapter(), "--rescue-probe", "500"});
  EXPECT_EQ(Client(port_).ask("crash stuck"), "");
  EXPECT_EQ(end(0), 128 + SIGSEGV);
  auto const told = faults();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0]["outcome"], "rescued");
  EXPECT_EQ(told[1]["outcome"],
            "not contained: not rescued: after a rescue the server did not pass its health probe: no answer in time");
}

// Faults at the end of each tenth send, which the server did not choose.
TEST_P(Rescue, StrikesAtTheEndOfACall) {
  start(GetParam(), {"--strikes", "40", "--strike-call", "sendto", "--strike-each", "10"});
  int lost = 0;
  auto client = std::make_unique<Client>(port_);
  for (int i = 0; i < 600; ++i) {
    std::string const answer = client->ask("set k" + std::to_string(i) + " v");
    ASSERT_NE(answer, "?") << i;
    if (answer == "ok") continue;
    client = std::make_unique<Client>(port_);
    ++lost;
  }
  for (Json const& fault : faults()) EXPECT_EQ(fault["outcome"], "rescued") << fault.dump();
  EXPECT_GE(lost, 30);
  ASSERT_EQ(client->ask("get k599"), "v");
  EXPECT_EQ(faults().size(), 40U);
}

class RescuePool : public Rescue {};

// A rescued thread that goes on to another connection may have kept something of the first: it is not rescued again.
TEST_P(RescuePool, AThreadThatIsUsedAgainIsNotRescuedAgain) {
  start(GetParam());
  EXPECT_EQ(Client(port_).ask("crash write"), "");
  EXPECT_EQ(Client(port_).ask("set a b"), "ok");
  EXPECT_EQ(Client(port_).ask("crash write"), "");
  EXPECT_EQ(end(0), 128 + SIGSEGV);
  auto const told = faults();
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0]["outcome"], "rescued");
  EXPECT_EQ(told[1]["outcome"], "not contained: not rescued: its thread has been rescued before, and was used again");
}

INSTANTIATE_TEST_SUITE_P(Servers, RescuePool, testing::Values("pool"),
                         [](auto const& info) { return std::string(info.param); });

INSTANTIATE_TEST_SUITE_P(Servers, Rescue, testing::Values("threads", "epoll"),
                         [](auto const& info) { return std::string(info.param); });

}  // namespace
}  // namespace vmsrs_test
