// The guest's signals: dispositions, masks, pending sets, alternate stacks, frames. Semantics as
// signal(7); the frame as the kernel's rt_sigframe (struct ucontext and siginfo in the guest's ABI,
// XSAVE area behind it).
//
// Host signals never reach guest code. What comes from outside (SIGTERM…) is taken by the monitor's
// signal thread and sent with ProcessSignals::send.
#pragma once

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>

#include "vmm/guest_addr.hpp"

namespace vmm {

class Process;
class Thread;

// As the guest's rt_sigaction passes it (the kernel's struct, not libc's).
struct KernelSigaction {
  uint64_t handler = 0;  // 0: SIG_DFL, 1: SIG_IGN
  uint64_t flags = 0;
  uint64_t restorer = 0;
  uint64_t mask = 0;
};

inline constexpr int kSignals = 64;
constexpr uint64_t sigbit(int sig) {
  return UINT64_C(1) << (sig - 1);
}

struct PendingSignal {
  int signal = 0;
  siginfo_t info{};
};

// Per thread. Guarded by ProcessSignals' mutex, but for `blocked`, which only the thread itself
// changes.
struct ThreadSignals {
  std::atomic<uint64_t> blocked{0};
  std::atomic<uint64_t> pending_bits{0};  // of `pending`
  std::deque<PendingSignal> pending;
  GuestAddr alt_stack;
  uint64_t alt_size = 0;
  int alt_flags = 2;                   // SS_DISABLE
  std::optional<uint64_t> saved_mask;  // rt_sigsuspend, ppoll…: restored when the handler's frame is made
};

// What the run loop must do after a look at the pending signals.
struct SignalOutcome {
  enum Kind { kNone, kHandler, kTerminate } kind = kNone;
  int signal = 0;
  bool restart = true;  // kHandler: SA_RESTART was set
  bool core = false;    // kTerminate: the default action dumps core
};

class ProcessSignals {
 public:
  // sends to the process (any thread that does not block it, which is kicked) or to one thread.
  void send(Process& process, PendingSignal const& signal);
  void send(Thread& thread, PendingSignal const& signal);
  // Whether `thread` has a signal that it does not block. Cheap: two atomic loads.
  [[nodiscard]] bool deliverable(Thread& thread) const noexcept;
  // Takes signals that are ignored away; for the first with a handler builds its frame on the guest
  // stack and sets the registers. To be called by the thread itself, its registers being those that
  // the interrupted code goes on with.
  SignalOutcome deliver(Thread& thread);
  // A synchronous fault: as the kernel's force_sig_info (a blocked or ignored signal kills).
  SignalOutcome force(Thread& thread, siginfo_t const& info);
  // rt_sigreturn: reads the frame at rsp, restores registers, mask and XSAVE. False: the frame is
  // bad (SIGSEGV).
  bool sigreturn(Thread& thread);
  KernelSigaction action(int signal);
  void set_action(int signal, KernelSigaction const& action);
  [[nodiscard]] bool ignored(int signal);

 private:
  mutable std::mutex mutex_;
  std::array<KernelSigaction, kSignals + 1> actions_{};
  std::deque<PendingSignal> pending_;
  std::atomic<uint64_t> pending_bits_{0};
};

}  // namespace vmm
