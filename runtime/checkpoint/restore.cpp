#include "runtime/checkpoint/restore.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <optional>

#include "runtime/checkpoint/image_content.hpp"
#include "runtime/checkpoint/socket_hooks.hpp"
#include "runtime/recovery.hpp"
#include "vmm/checkpoint/capture.hpp"
#include "vmm/monitor.hpp"

namespace vmsrs::checkpoint {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
// Closer than this the restored guest just waits (vmm/checkpoint/capture.cpp).
constexpr int64_t kSlackNs = 20'000'000;

bool write_text(char const* path, std::string const& text) {
  int const fd = open(path, O_WRONLY | O_CLOEXEC);
  bool const good = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (fd >= 0) close(fd);
  return good;
}

int64_t monotonic() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

// The host's CLOCK_MONOTONIC is behind the guest's (another machine, a reboot): children of this process from here on
// have it `ahead` later (time_namespaces(7)).
vmm::Result<void> enter_later_time(int64_t ahead) {
  std::string const why =
      fmt::format("the guest's monotonic clock is {:.3f} s ahead of this machine's and would go back",
                  static_cast<double>(ahead) / 1e9);
  constexpr int kNewTime = 0x80;  // CLONE_NEWTIME
  bool made = unshare(kNewTime) == 0;
  if (!made) {
    auto const uid = geteuid();
    auto const gid = getegid();
    made = unshare(CLONE_NEWUSER | kNewTime) == 0 && write_text("/proc/self/uid_map", fmt::format("{0} {0} 1", uid)) &&
           write_text("/proc/self/setgroups", "deny") &&
           write_text("/proc/self/gid_map", fmt::format("{0} {0} 1", gid));
  }
  if (!made) return vmm::fail_host(why + "; a time name space");
  std::string const offset = fmt::format("{} {}", ahead / kSecond, ahead % kSecond);
  if (!write_text("/proc/self/timens_offsets", fmt::format("monotonic {0}\nboottime {0}\n", offset))) {
    return vmm::fail_host(why + "; /proc/self/timens_offsets");
  }
  return {};
}

// Waits for the process that runs the guest, and passes signals on to it.
int attend(pid_t child, sigset_t const& passed) {
  for (;;) {
    siginfo_t info{};
    int const signal = sigwaitinfo(&passed, &info);
    int status = 0;
    if (signal == SIGCHLD || signal < 0) {
      if (waitpid(child, &status, WNOHANG) == child)
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      continue;
    }
    if (info.si_code != SI_KERNEL) kill(child, signal);
  }
}

void note(std::string const& text) {
  fmt::print(stderr, "vmsrs: restore: {}\n", text);
}

vmm::Result<vmm::ExitStatus> run_here(Image& image, RestoreConfig const& config) {
  Image::Content& content = image.content();
  content.unmap();
  vmm::AddressSpace::Config space;
  space.window = content.state.window;
  space.file = fcntl(content.file.get(), F_DUPFD_CLOEXEC, 3);
  content.file = vmm::ScopedFd();
  if (space.file < 0) return vmm::fail_host("fcntl(F_DUPFD_CLOEXEC)");
  auto memory = vmm::AddressSpace::create(space);
  if (!memory) return tl::unexpected(memory.error());
  std::unique_ptr<runtime::Recovery> recovery;
  if (content.has_recovery) {
    auto made = runtime::Recovery::create(config.recovery, **memory, content.recovery);
    if (!made) return tl::unexpected(made.error());
    recovery = std::move(*made);
  }
  vmm::RunConfig run;
  run.verbose = config.verbose;
  run.pollers = config.pollers;
  SocketHooks const hooks = socket_hooks(config.owner);
  return vmm::run_made_guest(
      run, std::move(*memory), recovery.get(),
      [&](vmm::GuestProcess& process) -> vmm::Result<void> {
        process.pause_all(nullptr);
        auto done = vmm::restore_state(process, content.state, hooks, note);
        if (done && recovery != nullptr) done = recovery->restore_threads(process);
        if (done && config.on_ready) config.on_ready(process, recovery.get());
        if (!done) process.exit_group(125);
        process.resume_all();
        return done;
      },
      config.on_end);
}

}  // namespace

vmm::Result<vmm::ExitStatus> run_restored(Image image, RestoreConfig const& config) {
  if (image.number() == 0) return vmm::fail(vmm::Errc::kBadCheckpoint, "there is no epoch to restore");
  int64_t const ahead = image.content().state.monotonic_ns - monotonic();
  if (ahead < kSlackNs) return run_here(image, config);
  if (auto later = enter_later_time(ahead); !later) return tl::unexpected(later.error());
  sigset_t passed, before;
  sigemptyset(&passed);
  for (int const signal : {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD}) sigaddset(&passed, signal);
  sigprocmask(SIG_BLOCK, &passed, &before);
  pid_t const parent = getpid();
  pid_t const child = fork();
  if (child < 0) return vmm::fail_host("fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(125);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    auto status = run_here(image, config);
    if (!status) {
      fmt::print(stderr, "vmsrs: {}\n", status.error().message);
      std::exit(125);
    }
    std::exit(status->shell_status());
  }
  int const code = attend(child, passed);
  return vmm::ExitStatus{code, 0};
}

}  // namespace vmsrs::checkpoint
