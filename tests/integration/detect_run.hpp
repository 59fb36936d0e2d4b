// A detector, guests and their events, as processes of a test: the registry is the test's own and gone with it.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/time_scale.hpp"

#ifndef DETECT_VMSRS  // a sanitizer's build: its shadow memory lies where the guest's is
#define DETECT_VMSRS ""
#define DETECT_GUEST ""
#endif

namespace detect_test {

using Json = nlohmann::json;
using Words = std::vector<std::string>;
namespace fs = std::filesystem;

inline uint64_t now_ns() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

inline void sleep_ms(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

class DetectRun : public testing::Test {
 protected:
  void SetUp() override {
    if (*DETECT_VMSRS == 0) GTEST_SKIP() << "not in a sanitizer's build";
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/kvm";
    char name[] = "/tmp/vmsrs-detect-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    scratch = name;
    registry = "vmsrs-test-" + scratch.substr(scratch.size() - 6) + std::to_string(getpid());
    events_file = scratch + "/events";
  }
  void TearDown() override {
    for (pid_t const pid : std::vector<pid_t>(children)) end(pid);
    std::error_code ignored;
    fs::remove_all(scratch, ignored);
    fs::remove("/dev/shm/" + registry, ignored);
  }

  // vmsrs with these words, `--registry` behind the first. Its output goes to a file of the scratch directory.
  pid_t start(
      Words words, std::function<void()> const& before = [] {}) {
    words.insert(words.begin() + 1, {"--registry", registry});
    std::string const out = fmt::format("{}/out.{}", scratch, children.size() + ++started);
    pid_t const pid = fork();
    if (pid == 0) {
      int const fd = open(out.c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600);
      dup2(open("/dev/null", O_RDONLY), 0);
      dup2(fd, 1), dup2(fd, 2);
      before();
      std::vector<char*> argv{const_cast<char*>(DETECT_VMSRS)};
      for (std::string& word : words) argv.push_back(word.data());
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(99);
    }
    children.push_back(pid);
    outputs[pid] = out;
    return pid;
  }
  pid_t detectd(Words const& options = {"--period", "continuous"}) {
    Words words{"detectd", "--events", events_file};
    words.insert(words.end(), options.begin(), options.end());
    size_t const before = events().size();
    pid_t const pid = start(words);
    EXPECT_TRUE(wait([&] { return events().size() > before; })) << output(pid);  // "is master", "is backup"
    return pid;
  }
  // The server of detect_guest.c, probed.
  pid_t serve_unseen(std::string const& name, int connections = 8, Words const& options = {},
                     std::string const& more = "") {
    port = free_port();
    Words words{"run",
                "--name",
                name,
                "--memory",
                "2G",
                "--probe-timeout",
                std::to_string(timeout_ms),
                "--probe-period",
                "200",
                "--probe",
                fmt::format("web=tcp://127.0.0.1:{}?send=PING%0a&expect=PONG{}", port, more)};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--", DETECT_GUEST, std::to_string(port), std::to_string(connections)});
    return start(words);
  }
  // Ready when it was seen to answer.
  pid_t serve(std::string const& name, int connections = 8, Words const& options = {}, std::string const& more = "") {
    pid_t const pid = serve_unseen(name, connections, options, more);
    EXPECT_TRUE(expect("application", "web", "healthy", "none")) << output(pid);
    return pid;
  }
  // Tells the server to do it; when that was, in the clock of events.
  uint64_t make(std::string const& what) {
    int const fd = connection();
    std::string const line = "DO " + what + "\n";
    EXPECT_EQ(write(fd, line.data(), line.size()), static_cast<ssize_t>(line.size()));
    pollfd p{fd, POLLIN, 0};
    poll(&p, 1, 20'000);
    uint64_t const then = now_ns();
    close(fd);
    return then;
  }
  [[nodiscard]] int connection() const {
    int const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<uint16_t>(port));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at), 0);
    return fd;
  }

  static bool wait(std::function<bool()> const& condition, int ms = 20'000) {
    uint64_t const until = now_ns() + std::stoull(vmsrs_test::limit(ms)) * 1'000'000;
    while (!condition()) {
      if (now_ns() > until) return false;
      sleep_ms(5);
    }
    return true;
  }
  std::vector<Json> events() const {
    std::vector<Json> all;
    std::ifstream file(events_file);
    for (std::string line; std::getline(file, line) && !file.eof();) all.push_back(Json::parse(line));
    return all;
  }
  // The first event of that kind behind `seen`, which moves behind it. None: it did not come, and what came is said.
  std::optional<Json> expect(std::string const& layer, std::string const& name, std::string const& failure,
                             std::string const& cause) {
    std::optional<Json> found;
    size_t at = seen;
    wait([&] {
      auto const all = events();
      for (; at < all.size() && !found; ++at) {
        Json const& e = all[at];
        if (e["layer"] == layer && e["name"].get<std::string>().starts_with(name) && e["class"] == failure &&
            e["cause"] == cause) {
          found = e;
          seen = at + 1;
        }
      }
      return found.has_value();
    });
    if (!found) {
      ADD_FAILURE() << "no " << layer << " " << name << " " << failure << " " << cause << " in:" << said();
    }
    return found;
  }
  // Every event that is a failure, as "layer name class cause".
  Words failures() const {
    Words all;
    for (Json const& e : events()) {
      if (e["class"] != "SF" && e["class"] != "NRF") continue;
      all.push_back(fmt::format("{} {} {} {}", e["layer"].get<std::string>(), e["name"].get<std::string>(),
                                e["class"].get<std::string>(), e["cause"].get<std::string>()));
    }
    return all;
  }
  std::string said() const {
    std::string text;
    for (Json const& e : events()) text += "\n" + e.dump();
    return text;
  }
  std::string output(pid_t pid) const {
    std::ifstream file(outputs.at(pid));
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // Of a command that ends by itself: its exit status.
  int run(Words const& words, std::string* out = nullptr) {
    pid_t const pid = start(words);
    int status = 0;
    waitpid(pid, &status, 0);
    std::erase(children, pid);
    if (out != nullptr) *out = output(pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  Json status() {
    std::string text;
    EXPECT_EQ(run({"status", "--json"}, &text), 0);
    return Json::parse(text);
  }
  void end(pid_t pid) {
    kill(pid, SIGKILL);
    kill(pid, SIGCONT);
    waitpid(pid, nullptr, 0);
    std::erase(children, pid);
  }
  // Milliseconds from `then` to an event's being noticed.
  static double ms_after(uint64_t then, std::optional<Json> const& event) {
    if (!event) return 1e9;
    return (static_cast<double>((*event)["noticed_ns"].get<uint64_t>()) - static_cast<double>(then)) / 1e6;
  }
  static int free_port() {
    int const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&at), size), 0);
    getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
    close(fd);
    return ntohs(at.sin_port);
  }

  std::string scratch, registry, events_file;
  int timeout_ms = 800, port = 0;
  size_t seen = 0, started = 0;
  std::vector<pid_t> children;
  std::map<pid_t, std::string> outputs;
};

}  // namespace detect_test
