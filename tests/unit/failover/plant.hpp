// A protected server without a VM, each part a process of its own, and the hand that kills them.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <functional>

#include "runtime/lease/shared_coordinator.hpp"
#include "runtime/replicate/seal.hpp"
#include "tests/unit/failover/history.hpp"

extern char** environ;

namespace failover {

using namespace std::chrono_literals;

// A process whose output is read line by line.
class Part {
 public:
  explicit Part(std::vector<std::string> const& words) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (auto const& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    if (posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ) != 0) pid_ = -1;
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    reader_ = std::thread([this, fd = ends[0]] {
      FILE* const file = fdopen(fd, "r");
      char line[1024];
      while (std::fgets(line, sizeof line, file) != nullptr) {
        std::lock_guard const guard(mutex_);
        lines_.emplace_back(line);
        changed_.notify_all();
      }
      std::fclose(file);
      std::lock_guard const guard(mutex_);
      closed_ = true;
      changed_.notify_all();
    });
  }
  ~Part() {
    if (!reaped_) {
      kill(pid_, SIGKILL);
      reap();
    }
    reader_.join();
  }
  void signal(int number) const { kill(pid_, number); }
  // Waits for its end, and takes it from the process table.
  void reap() {
    if (!std::exchange(reaped_, true)) waitpid(pid_, &status_, 0);
  }
  bool ended_within(std::chrono::milliseconds time) {
    auto const until = std::chrono::steady_clock::now() + time;
    while (!reaped_ && std::chrono::steady_clock::now() < until) {
      if (waitpid(pid_, &status_, WNOHANG) == pid_) reaped_ = true;
      std::this_thread::sleep_for(1ms);
    }
    return reaped_;
  }
  // The first line that begins so; empty: it did not come in time, or the process has ended without.
  std::string line(std::string const& begin, std::chrono::milliseconds time = 10s) {
    std::unique_lock lock(mutex_);
    std::string found;
    changed_.wait_for(lock, time, [&] {
      for (auto const& l : lines_) {
        if (l.starts_with(begin)) found = l;
        if (!found.empty()) return true;
      }
      return closed_;
    });
    return found;
  }
  std::string last_line(std::string const& begin) {
    std::lock_guard const guard(mutex_);
    for (auto l = lines_.rbegin(); l != lines_.rend(); ++l) {
      if (l->starts_with(begin)) return *l;
    }
    return "";
  }
  std::string all() {
    std::lock_guard const guard(mutex_);
    std::string text;
    for (auto const& l : lines_) {
      if (!l.starts_with("figures")) text += "  " + l;
    }
    return text;
  }

 private:
  pid_t pid_ = -1;
  int status_ = 0;
  bool reaped_ = false, closed_ = false;
  std::thread reader_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

// At which step a part kills itself; 0: never.
struct DeathsAt {
  long gateway = 0, primary = 0, backup = 0;
};

class Plant {
 public:
  explicit Plant(DeathsAt deaths = {}, std::string mode = "strict", int lease_ms = 5000)
      : mode_(std::move(mode)), lease_ms_(lease_ms) {
    static std::atomic<int> made{0};
    name_ = "vmsrs-failover-" + std::to_string(getpid()) + "-" + std::to_string(++made);
    key_file_ = testing::TempDir() + name_ + ".key";
    std::ofstream(key_file_) << vmsrs::runtime::replicate::Key::random().hex();
    coordinator = std::move(*vmsrs::runtime::SharedCoordinator::create(name_));
    gateway = start("gateway", "-", deaths.gateway);
    until_listening();
    primary = start("primary", "-", deaths.primary);
    std::string const line = primary->line("listening ");
    port = line.empty() ? 0 : static_cast<uint16_t>(std::stoi(line.substr(10)));
    add_backup(deaths.backup);
  }
  ~Plant() { std::remove(key_file_.c_str()); }
  std::unique_ptr<Part> start(std::string const& role, std::string const& own, long die_at = 0) {
    return std::make_unique<Part>(std::vector<std::string>{
        FAILOVER_PART, role, key_file_, "shm:" + name_, "unix:@" + name_ + "-gateway",
        own == "-" ? "unix:@" + name_ + "-none" : own, mode_, std::to_string(lease_ms_), std::to_string(die_at)});
  }
  void add_backup(long die_at = 0) {
    backup = start("backup", "unix:@" + name_ + "-backup" + std::to_string(++backups_), die_at);
  }
  bool protected_now() const { return !backup->line("holds ").empty(); }
  // What the director does when a primary is dead.
  void fail_over(bool replay = true) { (void)coordinator->revoke(coordinator->look()->term, replay); }
  // The backup is the primary now, and a new one stands behind it.
  bool succeed() {
    if (backup->line("took over").empty()) return false;
    primary = std::move(backup);
    add_backup();
    return true;
  }
  uint64_t figure(std::string const& name) const {
    std::string const line = gateway->last_line("figures");
    size_t const at = line.find(" " + name + " ");
    return at == std::string::npos ? 0 : std::stoull(line.substr(at + name.size() + 2));
  }
  std::string said() const {
    return "gateway:\n" + gateway->all() + "primary:\n" + primary->all() + "backup:\n" + backup->all();
  }

  std::unique_ptr<vmsrs::runtime::SharedCoordinator> coordinator;
  std::unique_ptr<Part> gateway, primary, backup;
  uint16_t port = 0;

 private:
  // Its control socket's name is there.
  void until_listening() const { (void)gateway->line("figures", 5s); }
  std::string name_, key_file_, mode_;
  int lease_ms_, backups_ = 0;
};

}  // namespace failover
