// links: vmm
// Signals from outside to a real guest: handlers, deaths, what nohup leaves, stop and continue, queues. The guest is
// this program again, started with --guest MODE.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "vmm/monitor.hpp"

namespace {

constexpr int kQueued = 100;

// ---- the guest ----

std::atomic<int> terminated{0}, queued{0}, sum{0}, continued{0}, sender{-1}, code{-1};

void say(std::string const& line) {
  if (write(1, line.data(), line.size()) != static_cast<ssize_t>(line.size())) _exit(99);
}

void handler(int sig, siginfo_t* info, void*) {
  if (sig == SIGTERM) {
    sender = info->si_pid;
    code = info->si_code;
    terminated++;
  } else if (sig == SIGCONT) {
    continued++;
  } else {
    sum += info->si_value.sival_int;
    queued++;
  }
}

void install(int sig, int flags) {
  struct sigaction action {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  sigaction(sig, &action, nullptr);
}

int guest(std::string const& mode) {
  if (mode == "default") {
    std::thread([] {
      for (;;) pause();
    }).detach();
    say("ready\n");
    for (;;) pause();
  }
  install(SIGTERM, 0);
  if (mode == "inherited") {
    struct sigaction hangup {};
    sigaction(SIGHUP, nullptr, &hangup);
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, nullptr, &blocked);
    say(hangup.sa_handler == SIG_IGN && sigismember(&blocked, SIGUSR2) == 1 ? "inherited\n" : "lost\n");
    while (terminated == 0) pause();
    return 0;
  }
  if (mode == "computes") {  // never leaves the guest by itself
    say("ready\n");
    while (terminated == 0) {
    }
    say("sender " + std::to_string(sender) + " code " + std::to_string(code) + "\n");
    return 7;
  }
  if (mode == "blocks") {
    int fds[2];
    if (pipe(fds) != 0) return 98;
    say("ready\n");
    char byte;
    ssize_t const n = read(fds[0], &byte, 1);
    say(n == -1 && errno == EINTR ? "interrupted\n" : "not interrupted\n");
    return 8;
  }
  if (mode == "queue") {
    install(SIGRTMIN + 7, SA_RESTART);
    say("ready\n");
    while (queued < kQueued) usleep(1000);
    say("sum " + std::to_string(sum) + "\n");
    return 0;
  }
  if (mode == "stops") {
    install(SIGCONT, SA_RESTART);
    say("ready\n");
    while (continued == 0) usleep(1000);
    say("continued\n");
    while (terminated == 0) usleep(1000);
    return 9;
  }
  return 97;
}

__attribute__((constructor)) void be_the_guest(int argc, char** argv, char**) {
  if (argc == 3 && std::strcmp(argv[1], "--guest") == 0) _exit(guest(argv[2]));
}

// ---- the monitor, in a child of the test ----

class Monitor {
 public:
  Monitor(char const* mode, bool as_nohup = false) {
    int fds[2];
    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(fds[1], 1);
      if (as_nohup) {
        signal(SIGHUP, SIG_IGN);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR2);
        sigprocmask(SIG_BLOCK, &set, nullptr);
      }
      vmm::RunConfig config;
      config.memory = 2ULL << 30;
      char self[4096] = {};
      if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0) _exit(120);
      config.program.argv = {self, "--guest", mode};
      auto memory = vmm::make_memory(config);
      if (!memory) _exit(121);
      auto const status = vmm::run_guest(config, std::move(*memory), nullptr);
      if (!status) std::fprintf(stderr, "%s\n", status.error().message.c_str());
      _exit(status ? status->shell_status() : 122);
    }
    close(fds[1]);
    output_ = fds[0];
  }
  ~Monitor() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(output_);
  }
  // One line of the guest's output, empty after its end or 20 seconds.
  std::string line() {
    std::string text;
    pollfd p{output_, POLLIN, 0};
    char c = 0;
    while (poll(&p, 1, 20'000) == 1 && read(output_, &c, 1) == 1 && c != '\n') text += c;
    return text;
  }
  void send(int sig) const { kill(pid_, sig); }
  [[nodiscard]] pid_t pid() const { return pid_; }
  // As a shell shows it.
  int status() {
    int s = 0;
    waitpid(pid_, &s, 0);
    pid_ = -1;
    return WIFEXITED(s) ? WEXITSTATUS(s) : 1000 + WTERMSIG(s);
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
};

TEST(SignalsOutside, DefaultActionEndsTheGuestWithItsStatus) {
  for (int sig : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGALRM}) {
    Monitor monitor("default");
    ASSERT_EQ(monitor.line(), "ready");
    monitor.send(SIGWINCH);  // ignored
    monitor.send(sig);
    EXPECT_EQ(monitor.status(), 128 + sig);
  }
}

TEST(SignalsOutside, HandlerRunsInAThreadThatOnlyComputes) {
  Monitor monitor("computes");
  ASSERT_EQ(monitor.line(), "ready");
  monitor.send(SIGTERM);
  EXPECT_EQ(monitor.line(), "sender 0 code 0");
  EXPECT_EQ(monitor.status(), 7);
}

TEST(SignalsOutside, HandlerInterruptsABlockedCall) {
  Monitor monitor("blocks");
  ASSERT_EQ(monitor.line(), "ready");
  usleep(20'000);
  monitor.send(SIGTERM);
  EXPECT_EQ(monitor.line(), "interrupted");
  EXPECT_EQ(monitor.status(), 8);
}

TEST(SignalsOutside, IgnoredAndBlockedOnesAreInherited) {
  Monitor monitor("inherited", true);
  ASSERT_EQ(monitor.line(), "inherited");
  monitor.send(SIGHUP);
  monitor.send(SIGUSR2);
  usleep(50'000);
  monitor.send(SIGTERM);
  EXPECT_EQ(monitor.status(), 0);
}

TEST(SignalsOutside, RealTimeOnesQueueWithTheirValues) {
  Monitor monitor("queue");
  ASSERT_EQ(monitor.line(), "ready");
  for (int i = 0; i < kQueued; i++) {
    sigval value{};
    value.sival_int = i;
    ASSERT_EQ(sigqueue(monitor.pid(), SIGRTMIN + 7, value), 0);
  }
  EXPECT_EQ(monitor.line(), "sum " + std::to_string(kQueued * (kQueued - 1) / 2));
  EXPECT_EQ(monitor.status(), 0);
}

TEST(SignalsOutside, StopAndContinueAreTheMonitors) {
  Monitor monitor("stops");
  ASSERT_EQ(monitor.line(), "ready");
  for (int sig : {SIGTSTP, SIGSTOP}) {
    monitor.send(sig);
    int status = 0;
    ASSERT_EQ(waitpid(monitor.pid(), &status, WUNTRACED), monitor.pid());
    EXPECT_TRUE(WIFSTOPPED(status)) << sig;
    monitor.send(SIGCONT);
    ASSERT_EQ(waitpid(monitor.pid(), &status, WCONTINUED), monitor.pid());
    EXPECT_TRUE(WIFCONTINUED(status));
  }
  EXPECT_EQ(monitor.line(), "continued");
  monitor.send(SIGTERM);
  EXPECT_EQ(monitor.status(), 9);
}

}  // namespace
