#include "cli/supervisor.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "cli/commands.hpp"

namespace vmsrs::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kMostStarts = 6;  // the first included, in
constexpr auto kWindow = std::chrono::seconds(60);
constexpr int kPassedOn[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};

}  // namespace

int supervise(std::function<int()> const& run) {
  sigset_t wanted, before;
  sigemptyset(&wanted);
  for (int const signal : kPassedOn) sigaddset(&wanted, signal);
  sigaddset(&wanted, SIGCHLD);
  sigprocmask(SIG_BLOCK, &wanted, &before);
  std::deque<Clock::time_point> starts;
  bool asked_to_end = false;
  for (;;) {
    pid_t const parent = getpid();
    pid_t const child = fork();
    if (child < 0) {
      fmt::print(stderr, "vmsrs: --restart: fork: {}\n", std::strerror(errno));
      return kMonitorError;
    }
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(kMonitorError);
      sigprocmask(SIG_SETMASK, &before, nullptr);
      std::exit(run());
    }
    starts.push_back(Clock::now());
    int status = 0;
    for (;;) {
      siginfo_t info{};
      int const signal = sigwaitinfo(&wanted, &info);
      if (signal == SIGCHLD) {
        if (waitpid(child, &status, WNOHANG) == child) break;
        continue;
      }
      if (signal <= 0) continue;
      asked_to_end |= signal == SIGTERM || signal == SIGINT || signal == SIGQUIT;
      // A terminal's own signals have reached the whole group already.
      if (info.si_code != SI_KERNEL) kill(child, signal);
    }
    int const code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    while (!starts.empty() && Clock::now() - starts.front() > kWindow) starts.pop_front();
    if (code <= 128 || asked_to_end) return code;
    if (starts.size() >= kMostStarts) {
      fmt::print(stderr, "vmsrs: --restart: signal {} again; not started again\n", code - 128);
      return code;
    }
    fmt::print(stderr, "vmsrs: --restart: ended by signal {}; starting again\n", code - 128);
  }
}

}  // namespace vmsrs::cli
