#include "vmm/signals.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "vmm/guest_timers.hpp"
#include "vmm/process.hpp"
#include "vmm/signal_frame.hpp"
#include "vmm/thread.hpp"

namespace vmm {
namespace {

constexpr size_t kMaxQueued = 8192;  // per queue, as a usual RLIMIT_SIGPENDING bounds it
constexpr uint64_t kHandlerDefault = 0, kHandlerIgnore = 1;
constexpr uint64_t kStopSignals = sigbit(SIGSTOP) | sigbit(SIGTSTP) | sigbit(SIGTTIN) | sigbit(SIGTTOU);
constexpr uint64_t kSynchronous =
    sigbit(SIGSEGV) | sigbit(SIGBUS) | sigbit(SIGILL) | sigbit(SIGTRAP) | sigbit(SIGFPE) | sigbit(SIGSYS);
constexpr uint64_t kCoreSignals = kSynchronous | sigbit(SIGQUIT) | sigbit(SIGABRT) | sigbit(SIGXCPU) | sigbit(SIGXFSZ);
constexpr uint64_t kIgnoredByDefault = sigbit(SIGCHLD) | sigbit(SIGURG) | sigbit(SIGWINCH) | sigbit(SIGCONT);
constexpr unsigned kTrapDivide = 0, kTrapDebug = 1, kTrapBreakpoint = 3, kTrapIllegal = 6, kTrapProtection = 13,
                   kTrapPage = 14, kTrapAlignment = 17, kTrapSimd = 19;
constexpr uint64_t kPageErrorUser = 4;

bool ignored_by(KernelSigaction const& action, int signal) {
  return action.handler == kHandlerIgnore ||
         (action.handler == kHandlerDefault && (sigbit(signal) & kIgnoredByDefault) != 0);
}

// A signal that the thread could take: not blocked, or waited for by its sigtimedwait.
bool wants(Thread& thread, int signal) {
  ThreadSignals& s = thread.signals();
  return ((~s.blocked.load() | s.waiting_for.load()) & sigbit(signal)) != 0;
}

// Synchronous ones first, then the lowest number, as the kernel's next_signal().
int first_signal(uint64_t bits) {
  if (bits & kSynchronous) bits &= kSynchronous;
  return bits == 0 ? 0 : std::countr_zero(bits) + 1;
}

ThreadSignals::Trap trap_from(siginfo_t const& info) {
  auto const address = reinterpret_cast<uint64_t>(info.si_addr);
  switch (info.si_signo) {
    case SIGSEGV:
      if (info.si_code == SEGV_MAPERR || info.si_code == SEGV_ACCERR) return {kTrapPage, kPageErrorUser, address};
      return {kTrapProtection, 0, 0};
    case SIGBUS:
      return {info.si_code == BUS_ADRALN ? kTrapAlignment : kTrapPage, 0, address};
    case SIGILL:
      return {kTrapIllegal, 0, 0};
    case SIGFPE:
      return {info.si_code == FPE_INTDIV ? kTrapDivide : kTrapSimd, 0, 0};
    case SIGTRAP:
      return {info.si_code == TRAP_BRKPT || info.si_code == SI_KERNEL ? kTrapBreakpoint : kTrapDebug, 0, 0};
    default:
      return {};
  }
}

SignalOutcome terminate(int signal, bool self_sent) {
  return {.kind = SignalOutcome::kTerminate,
          .signal = signal,
          .core = (sigbit(signal) & kCoreSignals) != 0,
          .self_sent = self_sent};
}

}  // namespace

ProcessSignals::ProcessSignals() = default;
ProcessSignals::~ProcessSignals() = default;

// ---- queues; with the mutex held ----

int ProcessSignals::enqueue(std::deque<PendingSignal>& queue, std::atomic<uint64_t>& bits,
                            PendingSignal const& signal) {
  uint64_t const bit = sigbit(signal.signal);
  if (signal.timer) {
    if (signal.timer->queued) {
      for (PendingSignal& p : queue)
        if (p.timer == signal.timer) p.info.si_overrun += signal.info.si_overrun + 1;
      return 0;
    }
    signal.timer->queued = true;
  } else if (signal.signal < kFirstRealTime) {
    if (bits.load() & bit) return 0;
  } else if (queue.size() >= kMaxQueued) {
    return -EAGAIN;
  }
  queue.push_back(signal);
  bits.fetch_or(bit);
  return 0;
}

PendingSignal ProcessSignals::dequeue(std::deque<PendingSignal>& queue, std::atomic<uint64_t>& bits, int signal) {
  PendingSignal taken;
  bool more = false;
  for (auto it = queue.begin(); it != queue.end();) {
    if (it->signal != signal) {
      ++it;
    } else if (taken.signal == 0) {
      taken = std::move(*it);
      it = queue.erase(it);
    } else {
      more = true;
      break;
    }
  }
  if (!more) bits.fetch_and(~sigbit(signal));
  if (taken.timer) {
    taken.timer->queued = false;
    taken.timer->last = taken.info.si_overrun;
  }
  return taken;
}

void ProcessSignals::discard(std::deque<PendingSignal>& queue, std::atomic<uint64_t>& bits, uint64_t mask) {
  if ((bits.load() & mask) == 0) return;
  std::erase_if(queue, [&](PendingSignal const& p) {
    if ((sigbit(p.signal) & mask) == 0) return false;
    if (p.timer) p.timer->queued = false;
    return true;
  });
  bits.fetch_and(~mask);
}

void ProcessSignals::update_watches() {
  for (Watch& w : watches_) {
    uint64_t const own = w.thread != nullptr ? w.thread->pending_bits.load() : 0;
    bool const raise = ((pending_bits_.load() | own) & w.mask) != 0;
    if (raise == w.raised) continue;
    uint64_t count = 1;
    // An eventfd of 0 or 1: neither call can block or fail but for a bad fd, which is the caller's.
    [[maybe_unused]] ssize_t const n = raise ? ::write(w.fd, &count, sizeof count) : ::read(w.fd, &count, sizeof count);
    w.raised = raise;
  }
}

// ---- sending ----

void ProcessSignals::discard_everywhere(Process& process, uint64_t mask) {
  process.for_each_thread([&](Thread& thread) {
    std::lock_guard lock(mutex_);
    discard(thread.signals().pending, thread.signals().pending_bits, mask);
  });
  std::lock_guard lock(mutex_);
  discard(pending_, pending_bits_, mask);
  update_watches();
}

void ProcessSignals::wake(Process& process, int signal) {
  bool done = false;
  process.for_each_thread([&](Thread& thread) {
    if (done || !wants(thread, signal)) return;
    thread.kick();
    done = true;
  });
}

int ProcessSignals::send(Process& process, PendingSignal const& signal) {
  int const sig = signal.signal;
  if (sig == SIGCONT) discard_everywhere(process, kStopSignals);
  if (sigbit(sig) & kStopSignals) discard_everywhere(process, sigbit(SIGCONT));
  bool blocked = false;  // by the main thread: then it is kept even if ignored now
  process.with_thread(Process::pid(), [&](Thread& main) { blocked = main.signals().blocked.load() & sigbit(sig); });
  {
    std::lock_guard lock(mutex_);
    if (!blocked && ignored_by(actions_[sig], sig)) return 0;
    if (int const r = enqueue(pending_, pending_bits_, signal); r != 0) return r;
    update_watches();
  }
  wake(process, sig);
  return 0;
}

int ProcessSignals::send(Thread& thread, PendingSignal const& signal) {
  int const sig = signal.signal;
  ThreadSignals& s = thread.signals();
  {
    std::lock_guard lock(mutex_);
    if (!(s.blocked.load() & sigbit(sig)) && ignored_by(actions_[sig], sig)) return 0;
    if (int const r = enqueue(s.pending, s.pending_bits, signal); r != 0) return r;
    update_watches();
  }
  if (wants(thread, sig)) thread.kick();
  return 0;
}

// ---- delivery ----

bool ProcessSignals::deliverable(Thread& thread) const noexcept {
  ThreadSignals& s = thread.signals();
  return ((s.pending_bits.load() | pending_bits_.load()) & ~s.blocked.load()) != 0;
}

std::optional<PendingSignal> ProcessSignals::take(Thread& thread, uint64_t set) {
  ThreadSignals& s = thread.signals();
  std::lock_guard lock(mutex_);
  if (int const sig = first_signal(s.pending_bits.load() & set)) {
    PendingSignal taken = dequeue(s.pending, s.pending_bits, sig);
    update_watches();
    return taken;
  }
  if (int const sig = first_signal(pending_bits_.load() & set)) {
    PendingSignal taken = dequeue(pending_, pending_bits_, sig);
    update_watches();
    return taken;
  }
  return std::nullopt;
}

SignalOutcome ProcessSignals::deliver(Thread& thread, InterruptedCall const* call) {
  ThreadSignals& s = thread.signals();
  SignalOutcome outcome;
  while (auto pending = take(thread, ~s.blocked.load())) {
    int const sig = pending->signal;
    KernelSigaction action;
    {
      std::lock_guard lock(mutex_);
      action = actions_[sig];
    }
    // abort() ends the process whatever a handler does: as with a fault, the layer above is asked before the handler.
    if (sig == SIGABRT && action.handler > kHandlerIgnore && pending->sender_tid == thread.tid()) {
      Fault f;
      f.kind = FaultKind::kFatalSignal;
      f.signal = sig;
      f.code = SI_TKILL;
      if (thread.process().hooks().on_fault(thread, f) == FaultVerdict::kResume)
        return {.kind = SignalOutcome::kHandler, .signal = sig};
    }
    if (action.handler > kHandlerIgnore && (action.flags & SA_RESETHAND)) {
      std::lock_guard lock(mutex_);
      actions_[sig].handler = kHandlerDefault;
    }
    if (sigbit(sig) & kUnblockable) action = {};
    if (ignored_by(action, sig)) continue;
    if (action.handler == kHandlerDefault) {
      if (sigbit(sig) & kStopSignals) {
        // The monitor stops as a whole, and the guest with it: whoever started it sees a stopped
        // child and SIGCONT goes on.
        ::kill(::getpid(), SIGSTOP);
        continue;
      }
      return terminate(sig, pending->sender_tid == thread.tid());
    }
    bool const first = outcome.kind == SignalOutcome::kNone;
    SignalOutcome const entered = enter_handler(thread, *pending, action, first ? call : nullptr);
    if (entered.kind == SignalOutcome::kTerminate) return entered;
    bool const restart = first ? entered.restart : outcome.restart;
    outcome = entered;
    outcome.restart = restart;
  }
  if (s.saved_mask) {  // no handler took it
    uint64_t const mask = *s.saved_mask;
    s.saved_mask.reset();
    set_blocked(thread, mask);
  }
  return outcome;
}

SignalOutcome ProcessSignals::enter_handler(Thread& thread, PendingSignal const& signal, KernelSigaction const& action,
                                            InterruptedCall const* call) {
  ThreadSignals& s = thread.signals();
  int const sig = signal.signal;
  bool const restart = action.flags & SA_RESTART;
  if (call != nullptr) {
    if (call->result == kRestartSys && restart) {
      thread.regs().rax = call->nr;
      thread.regs().rip -= 2;
    } else {
      thread.regs().rax = static_cast<uint64_t>(-EINTR);
    }
  }
  uint64_t const mask = s.saved_mask.value_or(s.blocked.load());
  if (!build_signal_frame(thread, signal, action, mask)) {
    // As the kernel's force_sigsegv(): a handler for SIGSEGV may have a better stack.
    if (sig == SIGSEGV) return terminate(SIGSEGV, false);
    siginfo_t info{};
    info.si_signo = SIGSEGV;
    info.si_code = SI_KERNEL;
    return force(thread, info);
  }
  s.saved_mask.reset();
  uint64_t blocked = s.blocked.load() | action.mask;
  if (!(action.flags & SA_NODEFER)) blocked |= sigbit(sig);
  set_blocked(thread, blocked);
  return {.kind = SignalOutcome::kHandler, .signal = sig, .restart = restart};
}

SignalOutcome ProcessSignals::force(Thread& thread, siginfo_t const& info, ThreadSignals::Trap const* trap) {
  ThreadSignals& s = thread.signals();
  int const sig = info.si_signo;
  s.trap = trap != nullptr ? *trap : trap_from(info);
  KernelSigaction action;
  {
    std::lock_guard lock(mutex_);
    KernelSigaction& stored = actions_[sig];
    bool const blocked = s.blocked.load() & sigbit(sig);
    if (blocked || stored.handler == kHandlerIgnore) stored.handler = kHandlerDefault;
    action = stored;
    if (action.handler > kHandlerIgnore && (action.flags & SA_RESETHAND)) stored.handler = kHandlerDefault;
  }
  if (action.handler == kHandlerDefault) return terminate(sig, false);
  PendingSignal signal;
  signal.signal = sig;
  signal.info = info;
  return enter_handler(thread, signal, action, nullptr);
}

bool ProcessSignals::sigreturn(Thread& thread) {
  auto const restored = restore_signal_frame(thread);
  if (!restored) return false;
  set_blocked(thread, restored->mask);
  return true;
}

// ---- dispositions ----

KernelSigaction ProcessSignals::action(int signal) {
  std::lock_guard lock(mutex_);
  return actions_[signal];
}

void ProcessSignals::set_action(Process& process, int signal, KernelSigaction const& action) {
  {
    std::lock_guard lock(mutex_);
    actions_[signal] = action;
    actions_[signal].mask &= ~kUnblockable;
  }
  if (ignored_by(action, signal)) discard_everywhere(process, sigbit(signal));
}

bool ProcessSignals::ignored(int signal) {
  std::lock_guard lock(mutex_);
  return ignored_by(actions_[signal], signal);
}

void ProcessSignals::inherit_ignored(uint64_t mask) {
  std::lock_guard lock(mutex_);
  for (int sig = 1; sig <= kSignals; sig++)
    if (mask & ~kUnblockable & sigbit(sig)) actions_[sig].handler = kHandlerIgnore;
}

// ---- masks ----

void ProcessSignals::set_blocked(Thread& thread, uint64_t mask) {
  mask &= ~kUnblockable;
  uint64_t const before = thread.signals().blocked.exchange(mask);
  if (before != mask) thread.process().hooks().on_mask_change(thread, before);
  // This thread may be the one that was chosen for a signal of the process.
  uint64_t orphaned = pending_bits_.load() & mask & ~before;
  for (; orphaned != 0; orphaned &= orphaned - 1) wake(thread.process(), std::countr_zero(orphaned) + 1);
}

void ProcessSignals::set_temporary_mask(Thread& thread, uint64_t mask) {
  ThreadSignals& s = thread.signals();
  if (!s.saved_mask) s.saved_mask = s.blocked.load();
  set_blocked(thread, mask);
  if (deliverable(thread)) thread.kick();
}

void ProcessSignals::end_temporary_mask(Thread& thread, int64_t result) {
  ThreadSignals& s = thread.signals();
  bool const interrupted = result == kRestartSys || result == kRestartNoHand || result == kRestartBlock;
  if (interrupted || !s.saved_mask) return;
  uint64_t const mask = *s.saved_mask;
  s.saved_mask.reset();
  set_blocked(thread, mask);
}

void ProcessSignals::inherit(Thread& child, Thread& parent) {
  child.signals().blocked.store(parent.signals().blocked.load());
}

void ProcessSignals::thread_exits(Thread& thread) {
  uint64_t const before = thread.signals().blocked.exchange(~UINT64_C(0));
  thread.signals().waiting_for.store(0);
  {
    std::lock_guard lock(mutex_);
    for (Watch& w : watches_)
      if (w.thread == &thread.signals()) w.thread = nullptr;
    update_watches();
  }
  uint64_t orphaned = pending_bits_.load() & ~before;
  for (; orphaned != 0; orphaned &= orphaned - 1) wake(thread.process(), std::countr_zero(orphaned) + 1);
}

// ---- pending ----

uint64_t ProcessSignals::pending(Thread& thread) const noexcept {
  return thread.signals().pending_bits.load() | pending_bits_.load();
}

void ProcessSignals::watch(int event_fd, uint64_t mask) {
  std::lock_guard lock(mutex_);
  auto const it = std::ranges::find(watches_, event_fd, &Watch::fd);
  if (it != watches_.end()) {
    it->mask = mask;
  } else {
    watches_.push_back({event_fd, mask, false, nullptr});
  }
  update_watches();
}

void ProcessSignals::watch_for(int event_fd, Thread& thread) {
  std::lock_guard lock(mutex_);
  auto const it = std::ranges::find(watches_, event_fd, &Watch::fd);
  if (it == watches_.end() || it->thread == &thread.signals()) return;
  it->thread = &thread.signals();
  update_watches();
}

void ProcessSignals::unwatch(int event_fd) {
  std::lock_guard lock(mutex_);
  std::erase_if(watches_, [&](Watch const& w) { return w.fd == event_fd; });
}

// ---- timers ----

GuestTimers& ProcessSignals::timers(Process& process) {
  std::lock_guard lock(timers_mutex_);
  if (!timers_) timers_ = std::make_shared<GuestTimers>(process);
  return *timers_;
}

int ProcessSignals::timer_overrun(TimerOverrun const& timer) {
  std::lock_guard lock(mutex_);
  return timer.last;
}

void ProcessSignals::shut_down() {
  std::lock_guard lock(timers_mutex_);
  timers_.reset();
}

// ---- makers ----

PendingSignal signal_from(Thread& sender, int signal, int code) {
  PendingSignal result;
  result.signal = signal;
  result.info.si_signo = signal;
  result.info.si_code = code;
  result.info.si_pid = Process::pid();
  result.info.si_uid = ::getuid();
  result.sender_tid = sender.tid();
  return result;
}

void raise_sigpipe(Thread& thread) {
  thread.process().signals().send(thread, signal_from(thread, SIGPIPE, SI_USER));
}

}  // namespace vmm
