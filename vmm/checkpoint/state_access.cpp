// Signals, timers and threads of a checkpoint.
#include "vmm/checkpoint/state_access.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <climits>

#include "vmm/syscalls/rlimits.hpp"

namespace vmm {

// ---- signals ----

PendingState StateAccess::to_state(GuestTimers const* timers, PendingSignal const& signal) {
  PendingState state{signal.signal, signal.info, signal.sender_tid, false, 0};
  if (!signal.timer || timers == nullptr) return state;
  for (auto const& [id, timer] : timers->timers_) {
    if (timer.overrun == signal.timer) state.of_timer = true, state.timer_id = id;
  }
  return state;
}

PendingSignal StateAccess::from_state(GuestTimers* timers, PendingState const& state) {
  PendingSignal signal{state.signal, state.info, state.sender_tid, nullptr};
  if (!state.of_timer || timers == nullptr) return signal;
  if (auto const it = timers->timers_.find(state.timer_id); it != timers->timers_.end()) {
    signal.timer = it->second.overrun;
    signal.timer->queued = true;
  }
  return signal;
}

void StateAccess::capture_signals(GuestProcess& process, ProcessState& state) {
  ProcessSignals& signals = process.signals();
  GuestTimers const* const timers = signals.timers_.get();
  std::lock_guard lock(signals.mutex_);
  state.actions = signals.actions_;
  for (PendingSignal const& p : signals.pending_) state.pending.push_back(to_state(timers, p));
}

void StateAccess::capture_pending(GuestProcess& process, Thread& thread, ThreadImage& image) {
  ProcessSignals& signals = process.signals();
  std::lock_guard lock(signals.mutex_);
  for (PendingSignal const& p : thread.signals().pending) image.pending.push_back(to_state(signals.timers_.get(), p));
}

void StateAccess::restore_signals(GuestProcess& process, ProcessState const& state) {
  ProcessSignals& signals = process.signals();
  {
    std::lock_guard lock(signals.mutex_);
    signals.actions_ = state.actions;
    for (PendingState const& p : state.pending) {
      signals.pending_.push_back(from_state(signals.timers_.get(), p));
      signals.pending_bits_.fetch_or(sigbit(p.signal));
    }
  }
  for (ThreadImage const& image : state.threads) restore_pending(process, image);
  std::lock_guard lock(signals.mutex_);
  signals.update_watches();
}

void StateAccess::restore_pending(GuestProcess& process, ThreadImage const& image) {
  ProcessSignals& signals = process.signals();
  process.with_thread(image.tid, [&](Thread& thread) {
    std::lock_guard lock(signals.mutex_);
    for (PendingState const& p : image.pending) {
      thread.signals().pending.push_back(from_state(signals.timers_.get(), p));
      thread.signals().pending_bits.fetch_or(sigbit(p.signal));
    }
  });
}

// ---- timers ----

std::unique_lock<std::mutex> StateAccess::hold_timers(GuestProcess& process) {
  GuestTimers* const timers = process.signals().timers_.get();
  return timers == nullptr ? std::unique_lock<std::mutex>() : std::unique_lock(timers->deliver_mutex_);
}

void StateAccess::capture_timers(GuestProcess& process, ProcessState& state) {
  ProcessSignals& signals = process.signals();
  GuestTimers* const timers = signals.timers_.get();
  if (timers == nullptr) return;
  std::lock_guard lock(timers->mutex_);
  state.next_timer = timers->next_id_;
  for (auto const& [id, timer] : timers->timers_) {
    TimerState t;
    t.id = id;
    t.clock = static_cast<int>(timer.clock);
    t.host_clock = timer.host_clock;
    t.signal = timer.target.signal;
    t.tid = timer.target.tid;
    t.value = timer.target.value;
    t.value_is_id = timer.target.value_is_id;
    t.interval_timer = timer.interval_timer;
    timers->get_locked(timer, t.left);
    // One that has run out, of which the timer thread has not heard yet: it runs out again at once.
    pollfd expired{timer.fd, POLLIN, 0};
    if (timer.clock == GuestTimers::Clock::kHost && poll(&expired, 1, 0) == 1) t.left.it_value = {0, 1};
    t.last_overrun = signals.timer_overrun(*timer.overrun);
    state.timers.push_back(t);
  }
}

Result<void> StateAccess::restore_timers(GuestProcess& process, ProcessState const& state) {
  if (state.timers.empty() && state.next_timer == 0) return {};
  GuestTimers& timers = process.signals().timers(process);
  std::lock_guard lock(timers.mutex_);
  timers.next_id_ = state.next_timer;
  for (TimerState const& t : state.timers) {
    GuestTimers::Timer timer;
    timer.id = t.id;
    timer.clock = static_cast<GuestTimers::Clock>(t.clock);
    timer.host_clock = t.host_clock;
    // The CPU clock of one thread names a host thread that is no more: the process's stands in for it.
    if (timer.clock == GuestTimers::Clock::kCpu && t.host_clock < 0) timer.host_clock = CLOCK_PROCESS_CPUTIME_ID;
    timer.target = {t.signal, t.tid, t.value, t.value_is_id};
    timer.interval_timer = t.interval_timer;
    timer.overrun = std::make_shared<TimerOverrun>();
    timer.overrun->last = t.last_overrun;
    if (int const r = timers.open_timer(timer); r != 0) return fail_host("a timer of the guest", -r);
    auto const [it, fresh] = timers.timers_.emplace(t.id, std::move(timer));
    if (!fresh) return fail(Errc::kBadCheckpoint, "a timer is there twice");
    if (int const r = timers.set_locked(it->second, false, t.left, nullptr); r != 0) {
      return fail_host("setting a timer of the guest", -r);
    }
  }
  return {};
}

// ---- threads ----

void StateAccess::capture_threads(GuestProcess& process, ProcessState& state, bool& ok) {
  process.for_each_thread([&](Thread& any) {
    auto& thread = static_cast<GuestThread&>(any);
    ThreadSignals& s = thread.signals();
    ThreadImage image;
    image.tid = thread.tid();
    image.vcpu = thread.vcpu_index();
    image.regs = thread.regs();
    image.regs.gs_base = thread.gs_base();
    image.xsave.resize(kXsaveBytes);
    ok = ok && thread.get_xsave(image.xsave);
    image.name = thread_name(thread, thread.tid());
    image.blocked = s.blocked.load();
    image.has_saved_mask = s.saved_mask.has_value();
    image.saved_mask = s.saved_mask.value_or(0);
    image.alt_stack = s.alt_stack.value;
    image.alt_size = s.alt_size;
    image.alt_flags = s.alt_flags;
    image.trap = {s.trap.number, s.trap.error, s.trap.address};
    image.clear_child_tid = thread.clear_child_tid.value;
    image.robust_list = thread.robust_list.value;
    if (auto const& call = thread.interrupted_call()) {
      image.in_call = true;
      image.call_nr = call->nr;
      image.call_result = call->result;
      image.deadline = thread.restart_deadline();
      image.sent = thread.sent_in_call();
    }
    capture_pending(process, thread, image);
    state.threads.push_back(std::move(image));
  });
  state.next_tid = process.next_tid_;
}

Result<void> StateAccess::restore_threads(GuestProcess& process, ProcessState const& state) {
  for (ThreadImage const& image : state.threads) {
    if (auto r = process.restore_thread(image); !r) {
      return fail(r.error().code, fmt::format("thread {}: {}", image.tid, r.error().message), r.error().sys_errno);
    }
  }
  process.next_tid_ = state.next_tid;
  return {};
}

}  // namespace vmm
