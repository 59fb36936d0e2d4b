// links: vmm
// Dispositions, masks, pending queues and what becomes of a signal, as signal(7) and the kernel have it.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <csignal>
#include <thread>

#include "tests/unit/signals_double.hpp"
#include "vmm/guest_timers.hpp"
#include "vmm/signal_frame.hpp"
#include "vmm/signal_gateway.hpp"

namespace {

using vmm::GuestAddr;
using vmm::InterruptedCall;
using vmm::PendingSignal;
using vmm::sigbit;
using vmm::SignalOutcome;
using vmm_test::FakeProcess;
using vmm_test::FakeThread;

constexpr uint64_t kStackSize = 256 * 1024;
constexpr uint64_t kHandler = 0x4711;
constexpr int kRealTime = 40;

PendingSignal make(int sig, int value = 0) {
  PendingSignal s;
  s.signal = sig;
  s.info.si_signo = sig;
  s.info.si_code = SI_QUEUE;
  s.info.si_value.sival_int = value;
  return s;
}

class Signals : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!vmm_test::kGuestMemory) GTEST_SKIP() << "needs guest memory, which AddressSanitizer does not allow";
    give_stack(main);
  }
  void give_stack(FakeThread& thread) {
    thread.regs().rsp = process.map(kStackSize).value + kStackSize;
    thread.regs().rip = 0x1000;
    thread.regs().rax = 5;
  }
  void handle(int sig, uint64_t flags = 0, uint64_t mask = 0) {
    signals.set_action(process, sig, {kHandler, flags | vmm::kSaRestorer, 0x4712, mask});
  }
  int64_t call(FakeThread& thread, long nr, std::array<uint64_t, 6> a) {
    for (auto const& row : vmm::signal_rows())
      if (row.nr == nr) return row.handler(thread, {static_cast<uint64_t>(nr), a});
    ADD_FAILURE() << "no row for " << nr;
    return -ENOSYS;
  }
  vmm::RtSigframe frame_of(FakeThread& thread) {
    vmm::RtSigframe frame{};
    EXPECT_TRUE(process.memory().read(GuestAddr(thread.regs().rsp), frame));
    return frame;
  }

  FakeProcess process;
  vmm::ProcessSignals& signals = process.signals();
  FakeThread& main = process.add_thread();
  FakeThread& other = process.add_thread();
};

// ---- queues ----

TEST_F(Signals, StandardOnesCoalesceRealTimeOnesQueue) {
  handle(SIGUSR1);
  handle(kRealTime);
  main.signals().blocked = sigbit(SIGUSR1) | sigbit(kRealTime);
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(signals.send(main, make(SIGUSR1, i)), 0);
    EXPECT_EQ(signals.send(main, make(kRealTime, i)), 0);
  }
  EXPECT_FALSE(signals.deliverable(main));
  EXPECT_EQ(signals.pending(main), sigbit(SIGUSR1) | sigbit(kRealTime));
  EXPECT_EQ(signals.pending(other), 0U);
  std::vector<int> taken;
  while (auto s = signals.take(main, ~UINT64_C(0))) taken.push_back(s->signal * 10 + s->info.si_value.sival_int);
  EXPECT_EQ(taken, (std::vector<int>{SIGUSR1 * 10, kRealTime * 10, kRealTime * 10 + 1, kRealTime * 10 + 2}));
  EXPECT_EQ(signals.pending(main), 0U);
}

TEST_F(Signals, OrderIsSynchronousThenTheThreadsThenLowestNumber) {
  for (int sig : {SIGHUP, SIGUSR1, SIGSEGV, kRealTime, kRealTime + 1}) handle(sig);
  main.signals().blocked = ~UINT64_C(0);
  signals.send(process, make(SIGHUP));
  signals.send(main, make(kRealTime + 1));
  signals.send(main, make(kRealTime));
  signals.send(main, make(SIGUSR1));
  signals.send(main, make(SIGSEGV));
  std::vector<int> taken;
  while (auto s = signals.take(main, ~UINT64_C(0))) taken.push_back(s->signal);
  EXPECT_EQ(taken, (std::vector<int>{SIGSEGV, SIGUSR1, kRealTime, kRealTime + 1, SIGHUP}));
}

TEST_F(Signals, QueueIsBounded) {
  handle(kRealTime);
  main.signals().blocked = sigbit(kRealTime);
  int refused = 0, taken = 0;
  for (int i = 0; i < 10000; i++) refused += signals.send(main, make(kRealTime)) == -EAGAIN;
  while (signals.take(main, sigbit(kRealTime))) taken++;
  EXPECT_EQ(refused + taken, 10000);
  EXPECT_GT(refused, 0);
  EXPECT_EQ(signals.send(main, make(kRealTime)), 0);
}

TEST_F(Signals, IgnoredOnesAreDroppedButNotWhileBlocked) {
  signals.send(main, make(SIGCHLD));  // ignored by default
  EXPECT_EQ(signals.pending(main), 0U);
  main.signals().blocked = sigbit(SIGCHLD);
  signals.send(main, make(SIGCHLD));
  signals.send(process, make(SIGCHLD));
  EXPECT_EQ(signals.pending(main), sigbit(SIGCHLD));
  signals.set_blocked(main, 0);
  EXPECT_TRUE(signals.deliverable(main));
  EXPECT_EQ(signals.deliver(main).kind, SignalOutcome::kNone);
  EXPECT_EQ(signals.pending(main), 0U);

  main.signals().blocked = sigbit(SIGUSR1);
  signals.send(main, make(SIGUSR1));
  signals.send(process, make(SIGUSR1));
  signals.set_action(process, SIGUSR1, {1, 0, 0, 0});
  EXPECT_EQ(signals.pending(main), 0U);
}

TEST_F(Signals, StopAndContinueCancelEachOther) {
  main.signals().blocked = other.signals().blocked = ~vmm::kUnblockable;
  signals.send(main, make(SIGTSTP));
  signals.send(process, make(SIGTTIN));
  EXPECT_EQ(signals.pending(main), sigbit(SIGTSTP) | sigbit(SIGTTIN));
  signals.send(process, make(SIGCONT));
  EXPECT_EQ(signals.pending(main), sigbit(SIGCONT));
  signals.send(process, make(SIGTSTP));
  EXPECT_EQ(signals.pending(main), sigbit(SIGTSTP));
}

// ---- who takes it ----

TEST_F(Signals, OfTheProcessGoesToAThreadThatDoesNotBlockIt) {
  handle(SIGUSR1);
  main.signals().blocked = sigbit(SIGUSR1);
  signals.send(process, make(SIGUSR1));
  EXPECT_FALSE(main.take_kick());
  EXPECT_TRUE(other.take_kick());
  EXPECT_FALSE(signals.deliverable(main));
  EXPECT_TRUE(signals.deliverable(other));
}

TEST_F(Signals, WaiterIsWokenForWhatItBlocks) {
  main.signals().blocked = other.signals().blocked = sigbit(SIGUSR1);
  other.signals().waiting_for = sigbit(SIGUSR1);
  signals.send(process, make(SIGUSR1));
  EXPECT_FALSE(main.take_kick());
  EXPECT_TRUE(other.take_kick());
  signals.send(main, make(SIGUSR1));
  EXPECT_FALSE(main.take_kick());
}

TEST_F(Signals, ChosenThreadThatBlocksOrEndsHandsItOn) {
  handle(SIGUSR1);
  signals.send(process, make(SIGUSR1));
  EXPECT_TRUE(main.take_kick());
  EXPECT_FALSE(other.take_kick());
  signals.set_blocked(main, sigbit(SIGUSR1));
  EXPECT_TRUE(other.take_kick());
  signals.set_blocked(main, 0);
  process.end_thread(other);
  EXPECT_TRUE(main.take_kick());
}

// ---- delivery ----

TEST_F(Signals, HandlerGetsItsFrameAndMask) {
  handle(SIGUSR1, 0, sigbit(SIGTERM) | sigbit(SIGKILL));
  main.signals().blocked = sigbit(SIGHUP);
  signals.send(main, make(SIGUSR1, 7));
  auto const outcome = signals.deliver(main);
  EXPECT_EQ(outcome.kind, SignalOutcome::kHandler);
  EXPECT_EQ(outcome.signal, SIGUSR1);
  EXPECT_FALSE(outcome.restart);
  EXPECT_EQ(main.signals().blocked.load(), sigbit(SIGHUP) | sigbit(SIGTERM) | sigbit(SIGUSR1));
  vmm::RtSigframe const frame = frame_of(main);
  EXPECT_EQ(frame.uc.sigmask, sigbit(SIGHUP));
  EXPECT_EQ(frame.uc.mcontext.rax, 5U);
  EXPECT_EQ(frame.info.si_value.sival_int, 7);
  EXPECT_EQ(main.regs().rip, kHandler);
  main.regs().rsp += 8;
  ASSERT_EQ(call(main, SYS_rt_sigreturn, {}), vmm::kRegistersSet);
  EXPECT_EQ(main.signals().blocked.load(), sigbit(SIGHUP));
  EXPECT_EQ(main.regs().rip, 0x1000U);
}

TEST_F(Signals, SeveralNestAndTheLastRunsFirst) {
  handle(SIGUSR1);
  handle(SIGUSR2);
  signals.send(main, make(SIGUSR1));
  signals.send(main, make(SIGUSR2));
  EXPECT_EQ(signals.deliver(main).signal, SIGUSR2);
  EXPECT_EQ(main.regs().rdi, static_cast<uint64_t>(SIGUSR2));
  EXPECT_EQ(frame_of(main).uc.mcontext.rip, kHandler);
  EXPECT_EQ(frame_of(main).uc.mcontext.rdi, static_cast<uint64_t>(SIGUSR1));
  EXPECT_FALSE(signals.deliverable(main));
}

TEST_F(Signals, FlagsOfTheAction) {
  handle(SIGUSR1, SA_NODEFER | SA_RESETHAND);
  signals.send(main, make(SIGUSR1));
  EXPECT_EQ(signals.deliver(main).kind, SignalOutcome::kHandler);
  EXPECT_EQ(main.signals().blocked.load(), 0U);
  EXPECT_EQ(signals.action(SIGUSR1).handler, 0U);
  signals.send(main, make(SIGUSR1));
  EXPECT_EQ(signals.deliver(main).kind, SignalOutcome::kTerminate);
}

TEST_F(Signals, DefaultActions) {
  auto const outcome_of = [&](int sig) {
    signals.send(main, make(sig));
    return signals.deliver(main);
  };
  for (int sig : {SIGTERM, SIGHUP, SIGPIPE, SIGALRM, SIGKILL, SIGUSR1, SIGIO, kRealTime}) {
    auto const o = outcome_of(sig);
    EXPECT_EQ(o.kind, SignalOutcome::kTerminate) << sig;
    EXPECT_EQ(o.signal, sig);
    EXPECT_FALSE(o.core) << sig;
  }
  for (int sig : {SIGABRT, SIGSEGV, SIGQUIT, SIGFPE, SIGILL, SIGBUS, SIGTRAP, SIGSYS, SIGXCPU}) {
    auto const o = outcome_of(sig);
    EXPECT_EQ(o.kind, SignalOutcome::kTerminate) << sig;
    EXPECT_TRUE(o.core) << sig;
  }
  for (int sig : {SIGCHLD, SIGURG, SIGWINCH, SIGCONT}) EXPECT_EQ(outcome_of(sig).kind, SignalOutcome::kNone) << sig;
}

TEST_F(Signals, KillAndStopCannotBeBlockedOrHandled) {
  signals.set_blocked(main, ~UINT64_C(0));
  EXPECT_EQ(main.signals().blocked.load(), ~vmm::kUnblockable);
  signals.send(main, make(SIGKILL));
  EXPECT_TRUE(signals.deliverable(main));
  EXPECT_EQ(signals.deliver(main).signal, SIGKILL);
}

TEST_F(Signals, StopStopsTheWholeMonitor) {
  pid_t const child = fork();
  if (child == 0) {
    signals.send(main, make(SIGSTOP));
    _exit(signals.deliver(main).kind == SignalOutcome::kNone ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  kill(child, SIGCONT);
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST_F(Signals, SentByTheThreadToItselfIsSaid) {
  ASSERT_EQ(call(main, SYS_tgkill, {vmm::kVirtualPid, vmm::kVirtualPid, SIGABRT}), 0);
  auto o = signals.deliver(main);
  EXPECT_EQ(o.kind, SignalOutcome::kTerminate);
  EXPECT_TRUE(o.self_sent && o.core);
  ASSERT_EQ(call(other, SYS_tgkill, {vmm::kVirtualPid, vmm::kVirtualPid, SIGABRT}), 0);
  EXPECT_FALSE(signals.deliver(main).self_sent);
  signals.send(process, make(SIGTERM));  // from outside
  EXPECT_FALSE(signals.deliver(main).self_sent);
}

TEST_F(Signals, FrameThatDoesNotFitIsASegmentationFault) {
  handle(SIGUSR1);
  main.regs().rsp = 64;
  signals.send(main, make(SIGUSR1));
  auto o = signals.deliver(main);
  EXPECT_EQ(o.kind, SignalOutcome::kTerminate);
  EXPECT_EQ(o.signal, SIGSEGV);
  EXPECT_FALSE(o.self_sent);
  // A handler for it on a stack of its own takes it.
  GuestAddr const alt = process.map(kStackSize);
  main.signals().alt_stack = alt;
  main.signals().alt_size = kStackSize;
  main.signals().alt_flags = 0;
  main.signals().blocked = 0;
  handle(SIGSEGV, SA_ONSTACK);
  signals.send(main, make(SIGUSR1));
  o = signals.deliver(main);
  EXPECT_EQ(o.kind, SignalOutcome::kHandler);
  EXPECT_EQ(o.signal, SIGSEGV);
  EXPECT_GT(main.regs().rsp, alt.value);
}

TEST_F(Signals, ForcedFaultKillsWhoBlocksOrIgnoresIt) {
  siginfo_t info{};
  info.si_signo = SIGSEGV;
  info.si_code = SEGV_MAPERR;
  info.si_addr = reinterpret_cast<void*>(0x77);
  handle(SIGSEGV);
  vmm::Registers const before = main.regs();
  EXPECT_EQ(signals.force(main, info).kind, SignalOutcome::kHandler);
  EXPECT_EQ(frame_of(main).uc.mcontext.cr2, 0x77U);
  EXPECT_EQ(frame_of(main).uc.mcontext.rip, before.rip);
  EXPECT_EQ(frame_of(main).uc.mcontext.rax, before.rax);
  EXPECT_EQ(signals.force(main, info).kind, SignalOutcome::kTerminate);  // blocked: inside its own handler
  main.signals().blocked = 0;
  signals.set_action(process, SIGSEGV, {1, 0, 0, 0});
  EXPECT_EQ(signals.force(main, info).kind, SignalOutcome::kTerminate);
}

// ---- interrupted calls ----

TEST_F(Signals, InterruptedCallRestartsOrFails) {
  struct Case {
    int64_t result;
    uint64_t flags;
    bool again;
  };
  Case const cases[] = {{vmm::kRestartSys, SA_RESTART, true},     {vmm::kRestartSys, 0, false},
                        {vmm::kRestartNoHand, SA_RESTART, false}, {vmm::kRestartNoHand, 0, false},
                        {vmm::kRestartBlock, SA_RESTART, false},  {vmm::kRestartBlock, 0, false}};
  for (Case const& c : cases) {
    FakeThread& thread = process.add_thread();
    give_stack(thread);
    handle(SIGUSR1, c.flags);
    signals.send(thread, make(SIGUSR1));
    InterruptedCall const interrupted{SYS_read, c.result};
    EXPECT_EQ(signals.deliver(thread, &interrupted).kind, SignalOutcome::kHandler);
    vmm::SigContext const saved = frame_of(thread).uc.mcontext;
    EXPECT_EQ(saved.rax, c.again ? static_cast<uint64_t>(SYS_read) : static_cast<uint64_t>(-EINTR));
    EXPECT_EQ(saved.rip, c.again ? 0x1000U - 2 : 0x1000U);
    process.end_thread(thread);
  }
  // No handler: the registers stay, the caller runs the call again.
  InterruptedCall const interrupted{SYS_read, vmm::kRestartSys};
  main.signals().blocked = sigbit(SIGCHLD);
  signals.send(main, make(SIGCHLD));
  main.signals().blocked = 0;
  EXPECT_EQ(signals.deliver(main, &interrupted).kind, SignalOutcome::kNone);
  EXPECT_EQ(main.regs().rax, 5U);
  EXPECT_EQ(main.regs().rip, 0x1000U);
}

TEST_F(Signals, TemporaryMaskEndsWithTheCallOrInTheFrame) {
  handle(SIGUSR1);
  main.signals().blocked = sigbit(SIGUSR1);
  signals.set_temporary_mask(main, sigbit(SIGTERM));
  EXPECT_FALSE(main.take_kick());
  signals.end_temporary_mask(main, 0);
  EXPECT_EQ(main.signals().blocked.load(), sigbit(SIGUSR1));

  signals.send(main, make(SIGUSR1));
  EXPECT_FALSE(main.take_kick());
  signals.set_temporary_mask(main, 0);
  EXPECT_TRUE(main.take_kick());  // the wait must not begin
  signals.end_temporary_mask(main, vmm::kRestartNoHand);
  signals.set_temporary_mask(main, 0);  // started again: the first mask is still the one to keep
  EXPECT_EQ(main.signals().blocked.load(), 0U);
  EXPECT_EQ(signals.deliver(main).kind, SignalOutcome::kHandler);
  EXPECT_EQ(frame_of(main).uc.sigmask, sigbit(SIGUSR1));
  EXPECT_EQ(main.signals().blocked.load(), sigbit(SIGUSR1));
  EXPECT_FALSE(main.signals().saved_mask.has_value());
}

// ---- calls ----

TEST_F(Signals, KillTakesVirtualIdsOnly) {
  handle(SIGUSR1);
  auto const kill = [&](int pid, int sig) {
    return call(main, SYS_kill, {static_cast<uint64_t>(static_cast<int64_t>(pid)), static_cast<uint64_t>(sig)});
  };
  for (int pid : {vmm::kVirtualPid, 0, -vmm::kVirtualPid, other.tid()}) {
    EXPECT_EQ(kill(pid, SIGUSR1), 0) << pid;
    EXPECT_NE(signals.pending(main), 0U) << pid;
    while (signals.take(main, ~UINT64_C(0))) {
    }
  }
  EXPECT_EQ(kill(1, SIGUSR1), -EPERM);
  EXPECT_EQ(kill(-1, SIGUSR1), -ESRCH);
  EXPECT_EQ(kill(getpid(), SIGUSR1), -ESRCH);  // the monitor itself
  EXPECT_EQ(kill(getppid(), 0), -ESRCH);
  EXPECT_EQ(kill(vmm::kVirtualPid, 65), -EINVAL);
  EXPECT_EQ(kill(vmm::kVirtualPid, -1), -EINVAL);
  EXPECT_EQ(kill(vmm::kVirtualPid, 0), 0);
  EXPECT_EQ(call(main, SYS_tgkill, {vmm::kVirtualPid, 4444, SIGUSR1}), -ESRCH);
  EXPECT_EQ(call(main, SYS_tgkill, {1, vmm::kVirtualPid, SIGUSR1}), -ESRCH);
  EXPECT_EQ(call(main, SYS_tgkill, {0, vmm::kVirtualPid, SIGUSR1}), -EINVAL);
  EXPECT_EQ(call(main, SYS_tkill, {static_cast<uint64_t>(gettid()), SIGUSR1}), -ESRCH);
  EXPECT_EQ(signals.pending(main), 0U);
}

TEST_F(Signals, CallsRefuseBadPointersAndSizes) {
  uint64_t const outside = 0xffff800000000000, good = process.map(4096).value;
  for (long nr : {SYS_rt_sigprocmask, SYS_rt_sigtimedwait}) {
    EXPECT_EQ(call(main, nr, {nr == SYS_rt_sigprocmask ? 0 : good, good, good, 16}), -EINVAL);
  }
  EXPECT_EQ(call(main, SYS_rt_sigaction, {SIGUSR1, outside, 0, 8}), -EFAULT);
  EXPECT_EQ(call(main, SYS_rt_sigaction, {SIGUSR1, 0, outside, 8}), -EFAULT);
  EXPECT_EQ(call(main, SYS_rt_sigaction, {0, good, 0, 8}), -EINVAL);
  EXPECT_EQ(call(main, SYS_rt_sigaction, {65, 0, 0, 8}), -EINVAL);
  EXPECT_EQ(call(main, SYS_rt_sigaction, {SIGKILL, good, 0, 8}), -EINVAL);
  EXPECT_EQ(call(main, SYS_rt_sigprocmask, {77, good, 0, 8}), -EINVAL);
  EXPECT_EQ(call(main, SYS_rt_sigprocmask, {SIG_BLOCK, outside, 0, 8}), -EFAULT);
  EXPECT_EQ(call(main, SYS_rt_sigprocmask, {SIG_BLOCK, 0, outside, 8}), -EFAULT);
  EXPECT_EQ(call(main, SYS_rt_sigpending, {outside, 8}), -EFAULT);
  EXPECT_EQ(call(main, SYS_rt_sigpending, {good, 9}), -EINVAL);
  EXPECT_EQ(call(main, SYS_rt_sigsuspend, {outside, 8}), -EFAULT);
  EXPECT_EQ(call(main, SYS_rt_sigsuspend, {good, 4}), -EINVAL);
  EXPECT_EQ(call(main, SYS_sigaltstack, {outside, 0}), -EFAULT);
  EXPECT_EQ(call(main, SYS_rt_sigqueueinfo, {vmm::kVirtualPid, SIGUSR1, outside}), -EFAULT);
  EXPECT_EQ(call(main, SYS_timer_create, {CLOCK_MONOTONIC, 0, outside}), -EFAULT);
  EXPECT_EQ(call(main, SYS_timer_create, {99, 0, good}), -EINVAL);
  EXPECT_EQ(call(main, SYS_setitimer, {3, 0, 0}), -EINVAL);
}

TEST_F(Signals, BadFrameRaisesItsOwnFault) {
  main.regs().rsp = 0;
  EXPECT_EQ(call(main, SYS_rt_sigreturn, {}), 0);
  auto const o = signals.deliver(main);
  EXPECT_EQ(o.kind, SignalOutcome::kTerminate);
  EXPECT_EQ(o.signal, SIGSEGV);
}

TEST_F(Signals, WaitTakesWhatIsThereAndTimesOut) {
  GuestAddr const at = process.map(4096);
  uint64_t const set = sigbit(SIGUSR1);
  timespec const none{0, 0};
  ASSERT_TRUE(process.memory().write(at, set));
  ASSERT_TRUE(process.memory().write(at + 64, none));
  main.signals().blocked = other.signals().blocked = set;
  EXPECT_EQ(call(main, SYS_rt_sigtimedwait, {at.value, at.value + 128, at.value + 64, 8}), -EAGAIN);
  signals.send(main, make(SIGUSR1, 3));
  EXPECT_EQ(call(main, SYS_rt_sigtimedwait, {at.value, at.value + 128, at.value + 64, 8}), SIGUSR1);
  siginfo_t info{};
  ASSERT_TRUE(process.memory().read(at + 128, info));
  EXPECT_EQ(info.si_value.sival_int, 3);
  EXPECT_EQ(main.signals().waiting_for.load(), 0U);
}

TEST_F(Signals, WatchIsReadableExactlyWhilePending) {
  int const fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  auto const readable = [&] {
    pollfd p{fd, POLLIN, 0};
    return poll(&p, 1, 0) == 1;
  };
  main.signals().blocked = other.signals().blocked = ~UINT64_C(0);
  signals.watch(fd, sigbit(SIGUSR1) | sigbit(kRealTime));
  EXPECT_FALSE(readable());
  signals.send(process, make(SIGUSR2));
  EXPECT_FALSE(readable());
  signals.send(process, make(kRealTime, 1));
  signals.send(process, make(kRealTime, 2));
  EXPECT_TRUE(readable());
  EXPECT_TRUE(signals.take(main, sigbit(kRealTime)));
  EXPECT_TRUE(readable());
  EXPECT_TRUE(signals.take(main, sigbit(kRealTime)));
  EXPECT_FALSE(readable());
  signals.watch(fd, sigbit(SIGUSR2));
  EXPECT_TRUE(readable());
  signals.unwatch(fd);
  close(fd);
}

// ---- timers ----

TEST_F(Signals, TimerHasOneSignalPendingAndCountsTheRest) {
  handle(SIGUSR1);
  main.signals().blocked = other.signals().blocked = sigbit(SIGUSR1);
  auto& timers = signals.timers(process);
  int const id = timers.create(CLOCK_MONOTONIC, {.signal = SIGUSR1, .value = 88});
  ASSERT_GE(id, 0);
  itimerspec const period{{0, 2'000'000}, {0, 2'000'000}};
  ASSERT_EQ(timers.set(id, false, period, nullptr), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  itimerspec const off{};
  ASSERT_EQ(timers.set(id, false, off, nullptr), 0);
  auto const taken = signals.take(main, sigbit(SIGUSR1));
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->info.si_code, SI_TIMER);
  EXPECT_EQ(taken->info.si_timerid, id);
  EXPECT_EQ(reinterpret_cast<uint64_t>(taken->info.si_value.sival_ptr), 88U);
  EXPECT_GE(taken->info.si_overrun, 5);
  EXPECT_EQ(timers.overrun(id), taken->info.si_overrun);
  EXPECT_FALSE(signals.take(main, sigbit(SIGUSR1)));
  EXPECT_EQ(timers.remove(id), 0);
  EXPECT_EQ(timers.remove(id), -EINVAL);
  EXPECT_EQ(timers.set(id, false, period, nullptr), -EINVAL);
  itimerspec now{};
  EXPECT_EQ(timers.get(-1, now), -EINVAL);  // setitimer's are not reachable by number
}

TEST_F(Signals, IntervalTimerKicksTheThread) {
  handle(SIGALRM);
  auto& timers = signals.timers(process);
  itimerspec const soon{{0, 0}, {0, 1'000'000}};
  ASSERT_EQ(timers.set_interval(ITIMER_REAL, soon, nullptr), 0);
  bool kicked = false;  // after the signal was queued
  for (int i = 0; i < 10'000 && !kicked; i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    kicked = main.take_kick();
  }
  EXPECT_TRUE(kicked);
  auto const taken = signals.take(main, sigbit(SIGALRM));
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->info.si_code, SI_KERNEL);
}

TEST_F(Signals, CpuTimerNeedsCpuTime) {
  handle(SIGPROF);
  auto& timers = signals.timers(process);
  itimerspec const twenty{{0, 0}, {0, 20'000'000}};
  ASSERT_EQ(timers.set_interval(ITIMER_PROF, twenty, nullptr), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  EXPECT_EQ(signals.pending(main), 0U);  // asleep: no CPU time passed
  auto const end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (signals.pending(main) == 0 && std::chrono::steady_clock::now() < end) {
  }
  EXPECT_EQ(signals.pending(main), sigbit(SIGPROF));
}

// ---- from outside ----

// In a child, whose signals and mask are its own.
int in_child(int (*body)(FakeProcess&, FakeThread&)) {
  pid_t const child = fork();
  if (child == 0) {
    FakeProcess process;
    FakeThread& main = process.add_thread();
    int const result = body(process, main);
    _exit(result);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

TEST(SignalGateway, ForwardsWithTheSendersInfo) {
  int const result = in_child([](FakeProcess& process, FakeThread& main) {
    vmm::SignalGateway gateway;
    if (!gateway.block(SIGRTMIN + 2)) return 1;
    gateway.adopt(process, main);
    if (!gateway.start(process)) return 2;
    process.signals().set_action(process, SIGTERM, {kHandler, vmm::kSaRestorer, 1, 0});
    for (int sig : {SIGTERM, SIGRTMIN + 5}) {
      sigqueue(getpid(), sig, {.sival_int = 12});
      for (int i = 0; i < 2000 && !process.signals().deliverable(main); i++)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      auto const taken = process.signals().take(main, sigbit(sig));
      if (!taken) return 3;
      if (taken->info.si_pid != 0 || taken->info.si_code != SI_QUEUE || taken->info.si_value.sival_int != 12) return 4;
      if (taken->sender_tid != 0) return 5;
      if (!main.take_kick()) return 6;
    }
    gateway.stop();
    return 0;
  });
  EXPECT_EQ(result, 0);
}

TEST(SignalGateway, WhatWasInheritedIsTheGuests) {
  int const result = in_child([](FakeProcess& process, FakeThread& main) {
    signal(SIGHUP, SIG_IGN);  // as nohup leaves it
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    vmm::SignalGateway gateway;
    if (!gateway.block(SIGRTMIN + 2)) return 1;
    gateway.adopt(process, main);
    if (process.signals().action(SIGHUP).handler != 1) return 2;
    if (process.signals().action(SIGTERM).handler != 0) return 3;
    if (main.signals().blocked.load() != sigbit(SIGUSR2)) return 4;
    struct sigaction pipe {};
    sigaction(SIGPIPE, nullptr, &pipe);
    if (pipe.sa_handler != SIG_IGN) return 5;
    // The guest's own SIGPIPE is not the monitor's.
    if (process.signals().ignored(SIGPIPE)) return 6;
    vmm::raise_sigpipe(main);
    return process.signals().pending(main) == sigbit(SIGPIPE) ? 0 : 7;
  });
  EXPECT_EQ(result, 0);
}

}  // namespace
