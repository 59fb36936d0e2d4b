// links: vmm
// Checkpoint and restore of real guests on the real /dev/kvm: a guest makes one kind of state (checkpoint_guest.c), is
// checkpointed and killed, and its restored copy must find everything as it was.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/time_scale.hpp"

#ifndef CHECKPOINT_VMSRS  // a sanitizer's build: its shadow memory lies where the guest's is
#define CHECKPOINT_VMSRS ""
#define CHECKPOINT_GUEST ""
#endif

namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;
using namespace std::chrono_literals;

std::chrono::seconds patience() {
  return std::chrono::seconds(std::stoi(vmsrs_test::limit(60)));
}

class Program {
 public:
  explicit Program(Words const& words) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(ends[1], 1);
      dup2(ends[1], 2);
      std::vector<char*> argv;
      argv.reserve(words.size() + 1);
      for (auto const& word : words) argv.push_back(const_cast<char*>(word.c_str()));
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(99);
    }
    close(ends[1]);
    out_ = ends[0];
  }
  ~Program() {
    end();
    close(out_);
  }
  Program(Program const&) = delete;
  Program& operator=(Program const&) = delete;
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] std::string const& said() const { return said_; }

  // Reads until `text` was said, or the output ends.
  bool wait_for(std::string const& text) {
    auto const until = std::chrono::steady_clock::now() + patience();
    while (said_.find(text) == std::string::npos) {
      if (std::chrono::steady_clock::now() > until) return false;
      pollfd wait{out_, POLLIN, 0};
      if (poll(&wait, 1, 100) <= 0) continue;
      char chunk[4096];
      ssize_t const n = read(out_, chunk, sizeof chunk);
      if (n <= 0) return false;
      said_.append(chunk, static_cast<size_t>(n));
    }
    return true;
  }
  // Until it listens for `vmsrs checkpoint` (runtime/checkpoint/control.hpp); a restored guest says nothing before.
  [[nodiscard]] bool listens() const {
    auto const until = std::chrono::steady_clock::now() + patience();
    std::string const name = " @vmsrs-" + std::to_string(pid_), accepts = " 00010000 ";
    while (std::chrono::steady_clock::now() < until) {
      std::ifstream sockets("/proc/net/unix");
      for (std::string line; std::getline(sockets, line);)
        if (line.ends_with(name) && line.find(accepts) != std::string::npos) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }
  // Its status when it has ended by itself; 128 + signal.
  int status() {
    wait_for("\1nothing says this");
    int status = 0;
    if (pid_ <= 0 || waitpid(pid_, &status, 0) != pid_) return -1;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  std::string said_;
};

class Checkpoint : public ::testing::TestWithParam<char const*> {
 protected:
  void SetUp() override {
    if (std::string(CHECKPOINT_VMSRS).empty()) GTEST_SKIP() << "needs a build without sanitizers";
    char name[] = "/tmp/vmsrs-checkpoint-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = fs::canonical(name).string();
    fs::create_directory(directory_ + "/scratch");
  }
  void TearDown() override {
    std::error_code ignored;
    if (!directory_.empty()) fs::remove_all(directory_, ignored);
  }
  [[nodiscard]] std::string file(std::string const& name) const { return directory_ + "/" + name; }
  [[nodiscard]] Words run(std::string const& kind) const {
    return {CHECKPOINT_VMSRS, "run", "--", CHECKPOINT_GUEST, kind, file("go"), file("scratch")};
  }
  void go() const { std::ofstream(file("go")) << "go"; }
  // A checkpoint of a guest that is ready; what the command said.
  std::string take(Program const& guest, Words const& more = {}) {
    Words words{CHECKPOINT_VMSRS, "checkpoint", std::to_string(guest.pid()), file("state")};
    words.insert(words.end(), more.begin(), more.end());
    Program command(words);
    EXPECT_EQ(command.status(), 0) << command.said();
    return command.said();
  }
  void restored_is_well() {
    Program guest({CHECKPOINT_VMSRS, "restore", file("state")});
    std::this_thread::sleep_for(100ms);
    go();
    EXPECT_EQ(guest.status(), 7) << guest.said();
    EXPECT_NE(guest.said().find("all is well"), std::string::npos) << guest.said();
  }

  std::string directory_;
};

TEST_P(Checkpoint, RestoredGuestFindsEverythingAsItWas) {
  Program guest(run(GetParam()));
  ASSERT_TRUE(guest.wait_for("ready")) << guest.said();
  std::this_thread::sleep_for(50ms);
  std::string const said = take(guest);
  EXPECT_NE(said.find("\"ok\":true"), std::string::npos) << said;
  guest.end();
  restored_is_well();
}

// All kinds but "descriptors", whose guest expects that a restore has reset its connection.
class CheckpointLeft : public Checkpoint {};

TEST_P(CheckpointLeft, GuestGoesOnAfterItsCheckpoint) {
  Program guest(run(GetParam()));
  ASSERT_TRUE(guest.wait_for("ready")) << guest.said();
  take(guest, {"--epochs", "5", "--every", "5"});
  go();
  EXPECT_EQ(guest.status(), 7) << guest.said();
}

INSTANTIATE_TEST_SUITE_P(Kinds, Checkpoint,
                         ::testing::Values("registers", "waiting", "timers", "signals", "descriptors", "memory",
                                           "threads50", "mapped"),
                         [](auto const& info) { return std::string(info.param); });
INSTANTIATE_TEST_SUITE_P(Kinds, CheckpointLeft,
                         ::testing::Values("registers", "waiting", "timers", "signals", "memory", "threads50",
                                           "mapped"),
                         [](auto const& info) { return std::string(info.param); });

class CheckpointEpochs : public Checkpoint {};

TEST_F(CheckpointEpochs, SumOfEpochsIsTheLastState) {
  Program guest(run("memory"));
  ASSERT_TRUE(guest.wait_for("ready")) << guest.said();
  std::string const said = take(guest, {"--epochs", "30", "--every", "5"});
  EXPECT_NE(said.find("\"epoch\":30"), std::string::npos) << said;
  guest.end();
  restored_is_well();
}

TEST_F(CheckpointEpochs, RestoredGuestIsCheckpointedAgain) {
  auto guest = std::make_unique<Program>(run("threads50"));
  ASSERT_TRUE(guest->wait_for("ready")) << guest->said();
  for (int generation = 0; generation < 3; ++generation) {
    take(*guest, {"--epochs", "3", "--every", "5"});
    guest = std::make_unique<Program>(Words{CHECKPOINT_VMSRS, "restore", file("state")});
    ASSERT_TRUE(guest->listens()) << guest->said();
    std::this_thread::sleep_for(50ms);  // it has run
  }
  go();
  EXPECT_EQ(guest->status(), 7) << guest->said();
}

// As on a machine that was started later than the one where the checkpoint was taken.
TEST_F(CheckpointEpochs, MonotonicTimeNeverGoesBack) {
  if (std::system("unshare --time --monotonic 100000 --fork true 2>/dev/null") != 0) {
    GTEST_SKIP() << "needs the right to make a time name space";
  }
  Words const words = run("timers");
  std::string command = "echo pid $$; exec";
  for (auto const& word : words) command += " '" + word + "'";
  Program guest({"/usr/bin/unshare", "--time", "--monotonic", "100000", "--fork", "/bin/sh", "-c", command});
  ASSERT_TRUE(guest.wait_for("ready")) << guest.said();
  auto const pid = static_cast<pid_t>(std::stol(guest.said().substr(guest.said().find("pid ") + 4)));
  Program taken({CHECKPOINT_VMSRS, "checkpoint", std::to_string(pid), file("state")});
  EXPECT_EQ(taken.status(), 0) << taken.said();
  kill(pid, SIGKILL);
  restored_is_well();
}

class CheckpointRefused : public Checkpoint {
 protected:
  void restore_says(std::string const& what) {
    Program command({CHECKPOINT_VMSRS, "restore", file("state")});
    EXPECT_EQ(command.status(), 125) << command.said();
    EXPECT_NE(command.said().find(what), std::string::npos) << command.said();
  }
};

TEST_F(CheckpointRefused, DamagedAndTornFiles) {
  Program guest(run("registers"));
  ASSERT_TRUE(guest.wait_for("ready")) << guest.said();
  take(guest);
  guest.end();
  std::ifstream in(file("state"), std::ios::binary);
  std::string const good{std::istreambuf_iterator<char>(in), {}};
  auto const put = [&](std::string const& bytes) { std::ofstream(file("state"), std::ios::binary) << bytes; };
  for (size_t const at : {size_t{3}, size_t{20}, size_t{100}, good.size() / 3, good.size() / 2, good.size() - 5}) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    put(bad);
    Program command({CHECKPOINT_VMSRS, "restore", file("state")});
    EXPECT_EQ(command.status(), 125) << at << ": " << command.said();
  }
  put(good.substr(0, good.size() / 2));
  restore_says("torn");
  put(good + "x");
  restore_says("torn");
  put("");
  restore_says("empty");
  put("#!/bin/sh\necho this is a script, and long enough for a header\n");
  restore_says("no checkpoint of vmsrs");
}

TEST_F(CheckpointRefused, NobodyThere) {
  Program command({CHECKPOINT_VMSRS, "checkpoint", std::to_string(getpid()), file("state")});
  EXPECT_EQ(command.status(), 2) << command.said();
  EXPECT_NE(command.said().find("no guest of vmsrs"), std::string::npos) << command.said();
  EXPECT_FALSE(fs::exists(file("state")));
  restore_says("No such file");
}

}  // namespace
