#include "vmm/signal_gateway.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>

#include "vmm/process.hpp"
#include "vmm/thread.hpp"

namespace vmm {
namespace {

// Never taken: the monitor's own faults, what cannot be taken, job control of the terminal, and
// SIGPIPE, which is ignored. SIGCHLD has no meaning for a guest without children.
constexpr int kLeftAlone[] = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGTRAP, SIGSYS, SIGABRT,
                              SIGKILL, SIGSTOP, SIGTTIN, SIGTTOU, SIGPIPE, SIGCHLD};

bool left_alone(int sig) {
  return std::find(std::begin(kLeftAlone), std::end(kLeftAlone), sig) != std::end(kLeftAlone);
}

PendingSignal to_guest(signalfd_siginfo const& from) {
  PendingSignal signal;
  signal.signal = static_cast<int>(from.ssi_signo);
  siginfo_t& info = signal.info;
  info.si_signo = signal.signal;
  info.si_errno = from.ssi_errno;
  info.si_code = from.ssi_code;
  // A host pid means nothing to the guest: 0, as the kernel shows a sender in another pid
  // namespace.
  info.si_pid = 0;
  info.si_uid = from.ssi_uid;
  if (from.ssi_code == SI_QUEUE) info.si_value.sival_ptr = reinterpret_cast<void*>(from.ssi_ptr);
  return signal;
}

}  // namespace

Result<void> SignalGateway::block(int kick_signal) {
  sigemptyset(&taken_);
  for (int sig = 1; sig <= kSignals; sig++) {
    if (left_alone(sig) || sig == kick_signal) continue;
    // libc refuses its own two real-time signals, which it needs in the monitor.
    if (sigaddset(&taken_, sig) != 0) continue;
  }
  sigset_t before;
  if (int const r = pthread_sigmask(SIG_BLOCK, &taken_, &before); r != 0) return fail_host("pthread_sigmask", r);
  for (int sig = 1; sig <= kSignals; sig++) {
    if (sig == kick_signal) continue;
    if (sigismember(&before, sig) == 1) inherited_mask_ |= sigbit(sig);
    struct sigaction action {};
    if (sigaction(sig, nullptr, &action) != 0 || action.sa_handler != SIG_IGN) continue;
    inherited_ignored_ |= sigbit(sig);
    // A signal that the host ignores is thrown away even while blocked: the guest may want it.
    action.sa_handler = SIG_DFL;
    if (sigismember(&taken_, sig) == 1) sigaction(sig, &action, nullptr);
  }
  // SIGCONT and SIGWINCH are ignored by default, which for a blocked signal is no loss: it stays
  // pending for the signalfd.
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  if (sigaction(SIGPIPE, &ignore, nullptr) != 0) return fail_host("sigaction(SIGPIPE)");
  return {};
}

void SignalGateway::adopt(Process& process, Thread& main_thread) {
  main_thread.signals().blocked.store(inherited_mask_ & ~kUnblockable);
  process.signals().inherit_ignored(inherited_ignored_);
}

Result<void> SignalGateway::start(Process& process) {
  signals_ = signalfd(-1, &taken_, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals_ < 0) return fail_host("signalfd");
  stop_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_ < 0) return fail_host("eventfd");
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this, &process] { run(process); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {};
}

void SignalGateway::run(Process& process) {
  pthread_setname_np(pthread_self(), "signal-gateway");
  std::array<pollfd, 2> fds{{{signals_, POLLIN, 0}, {stop_, POLLIN, 0}}};
  for (;;) {
    if (poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info;
    while (::read(signals_, &info, sizeof info) == sizeof info) {
      process.outside_signals.fetch_or(sigbit(static_cast<int>(info.ssi_signo)));
      process.signals().send(process, to_guest(info));
    }
  }
}

void SignalGateway::stop() {
  if (thread_.joinable()) {
    eventfd_write(stop_, 1);
    thread_.join();
  }
  for (int* fd : {&signals_, &stop_}) {
    if (*fd >= 0) ::close(*fd);
    *fd = -1;
  }
}

}  // namespace vmm
