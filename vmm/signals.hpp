// The guest's signals: dispositions, masks, pending queues, alternate stacks. Semantics as signal(7);
// the frame is made in vmm/signal_frame.cpp, timers live in vmm/guest_timers.cpp.
//
// Host signals never reach guest code. What comes from outside (SIGTERM…) is taken by the monitor's
// signal thread (vmm/signal_gateway.hpp) and sent with ProcessSignals::send.
//
// Thread-safe. Lock order: Process's thread list, then ProcessSignals; so no function here may be
// called with a lock held that for_each_thread() or Thread::kick() needs.
#pragma once

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vmm/guest_addr.hpp"

namespace vmm {

class GuestTimers;
class Process;
class StateAccess;
class Thread;

// As the guest's rt_sigaction passes it (the kernel's struct, not libc's).
struct KernelSigaction {
  uint64_t handler = 0;  // 0: SIG_DFL, 1: SIG_IGN
  uint64_t flags = 0;
  uint64_t restorer = 0;
  uint64_t mask = 0;
};

inline constexpr int kSignals = 64;
inline constexpr int kFirstRealTime = 32;  // the kernel's SIGRTMIN; libc keeps the first two
constexpr uint64_t sigbit(int sig) {
  return UINT64_C(1) << (sig - 1);
}
inline constexpr uint64_t kUnblockable = sigbit(SIGKILL) | sigbit(SIGSTOP);

// A POSIX timer has at most one signal pending; what expires meanwhile is counted. Guarded by
// ProcessSignals' mutex.
struct TimerOverrun {
  bool queued = false;
  int last = 0;  // overrun of the signal that was taken last
};

struct PendingSignal {
  int signal = 0;
  siginfo_t info{};
  int sender_tid = 0;                   // guest thread that sent it; 0: another
  std::shared_ptr<TimerOverrun> timer;  // of a POSIX timer's signal
};

// Per thread. Guarded by ProcessSignals' mutex, but for `blocked` and the rest from alt_stack on,
// which only the thread itself changes.
struct ThreadSignals {
  std::atomic<uint64_t> blocked{0};
  std::atomic<uint64_t> waiting_for{0};   // set of the sigtimedwait that the thread is in
  std::atomic<uint64_t> pending_bits{0};  // of `pending`
  std::deque<PendingSignal> pending;
  GuestAddr alt_stack;
  uint64_t alt_size = 0;
  int alt_flags = 2;                   // SS_DISABLE
  std::optional<uint64_t> saved_mask;  // rt_sigsuspend, ppoll…: restored when the handler's frame is made
  // The last hardware trap, as sigcontext shows it (trapno, err, cr2).
  struct Trap {
    uint64_t number = 0, error = 0, address = 0;
  } trap;
};

// What the run loop must do after a look at the pending signals.
struct SignalOutcome {
  enum Kind { kNone, kHandler, kTerminate } kind = kNone;
  int signal = 0;
  bool restart = true;     // kHandler: SA_RESTART was set
  bool core = false;       // kTerminate: the default action dumps core
  bool self_sent = false;  // kTerminate: the thread sent it to itself (abort(), raise())
};

// A system call that ended with one of kRestartSys, kRestartNoHand, kRestartBlock; registers as
// after the call's instruction (2 bytes), rax not yet set.
struct InterruptedCall {
  uint64_t nr = 0;
  int64_t result = 0;
};

class ProcessSignals {
 public:
  ProcessSignals();
  ~ProcessSignals();
  ProcessSignals(ProcessSignals const&) = delete;
  ProcessSignals& operator=(ProcessSignals const&) = delete;

  // Sends to the process (a thread that does not block it is kicked) or to one thread. 0 or -EAGAIN
  // (a real-time signal, and the queue is full). An ignored signal is dropped: 0.
  int send(Process& process, PendingSignal const& signal);
  int send(Thread& thread, PendingSignal const& signal);
  // Whether `thread` has a signal that it does not block. Cheap: three atomic loads.
  [[nodiscard]] bool deliverable(Thread& thread) const noexcept;
  // Takes signals that are ignored away; for each with a handler builds its frame on the guest
  // stack and sets the registers (several frames nest, as the kernel does it). To be called by the
  // thread itself, its registers being those that the interrupted code goes on with. With `call`,
  // the first frame holds the registers for the call's -EINTR or for its repetition; kNone leaves
  // the registers alone and the caller runs the call again. Of a SIGABRT that the thread sent itself the hooks hear
  // before its handler; if they resume the thread elsewhere, the outcome is kHandler too.
  SignalOutcome deliver(Thread& thread, InterruptedCall const* call = nullptr);
  // A synchronous fault: as the kernel's force_sig_info (a blocked or ignored signal kills).
  // Without `trap` its values are derived from `info`.
  SignalOutcome force(Thread& thread, siginfo_t const& info, ThreadSignals::Trap const* trap = nullptr);
  // rt_sigreturn: reads the frame at rsp, restores registers, mask and XSAVE. False: the frame is
  // bad (SIGSEGV).
  bool sigreturn(Thread& thread);

  KernelSigaction action(int signal);
  // Drops what is pending of a signal that is ignored from now on.
  void set_action(Process& process, int signal, KernelSigaction const& action);
  [[nodiscard]] bool ignored(int signal);
  // What the process was started with: ignored signals stay so. Before any thread exists.
  void inherit_ignored(uint64_t mask);

  // ---- masks; by the thread itself ----
  void set_blocked(Thread& thread, uint64_t mask);
  // ppoll, pselect6, epoll_pwait, rt_sigsuspend: `mask` for the time of the call. What it makes
  // deliverable interrupts the next block_in(). May be repeated when the call is restarted.
  void set_temporary_mask(Thread& thread, uint64_t mask);
  // At the end of such a call: puts the mask back, unless `result` is a restart code: then
  // deliver() does it, after the signal was taken under the temporary mask.
  void end_temporary_mask(Thread& thread, int64_t result);
  // A new thread: the parent's mask, no alternate stack, nothing pending. Before the child runs.
  static void inherit(Thread& child, Thread& parent);
  // The thread is about to leave the process's list: signals meant for any thread that it was
  // chosen to take go to another.
  void thread_exits(Thread& thread);

  // ---- for sigtimedwait, sigpending, signalfd ----
  std::optional<PendingSignal> take(Thread& thread, uint64_t set);
  [[nodiscard]] uint64_t pending(Thread& thread) const noexcept;
  // Keeps `event_fd` (an eventfd, EFD_NONBLOCK) readable while a signal of `mask` is pending for
  // the process. A second call with the same fd replaces the mask.
  void watch(int event_fd, uint64_t mask);
  // From here on also while one is pending for `thread`, and for no other thread.
  void watch_for(int event_fd, Thread& thread);
  void unwatch(int event_fd);

  GuestTimers& timers(Process& process);
  [[nodiscard]] int timer_overrun(TimerOverrun const& timer);
  // Stops the timer thread. Before the process's threads and memory go away.
  void shut_down();

 private:
  friend class StateAccess;  // vmm/checkpoint
  struct Watch {
    int fd;
    uint64_t mask;
    bool raised;
    ThreadSignals const* thread;  // null: none
  };
  int enqueue(std::deque<PendingSignal>& queue, std::atomic<uint64_t>& bits, PendingSignal const& signal);
  PendingSignal dequeue(std::deque<PendingSignal>& queue, std::atomic<uint64_t>& bits, int signal);
  void discard(std::deque<PendingSignal>& queue, std::atomic<uint64_t>& bits, uint64_t mask);
  void discard_everywhere(Process& process, uint64_t mask);
  void update_watches();
  static void wake(Process& process, int signal);
  SignalOutcome enter_handler(Thread& thread, PendingSignal const& signal, KernelSigaction const& action,
                              InterruptedCall const* call);

  mutable std::mutex mutex_;
  std::array<KernelSigaction, kSignals + 1> actions_{};
  std::deque<PendingSignal> pending_;
  std::atomic<uint64_t> pending_bits_{0};
  std::vector<Watch> watches_;
  std::mutex timers_mutex_;
  std::shared_ptr<GuestTimers> timers_;
};

// EPIPE of a write without MSG_NOSIGNAL: the thread gets SIGPIPE (the host ignores its own).
void raise_sigpipe(Thread& thread);

// siginfo as the kernel fills it for kill (SI_USER) and tgkill (SI_TKILL), sent by a guest thread.
[[nodiscard]] PendingSignal signal_from(Thread& sender, int signal, int code);

}  // namespace vmm
