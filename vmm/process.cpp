#include "vmm/process.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace vmm {

void Process::for_each_thread(std::function<void(Thread&)> const& f) {
  std::lock_guard lock(threads_mutex_);
  for (auto& [tid, thread] : threads_) f(*thread);
}

bool Process::with_thread(int tid, std::function<void(Thread&)> const& f) {
  std::lock_guard lock(threads_mutex_);
  auto it = threads_.find(tid);
  if (it == threads_.end()) return false;
  f(*it->second);
  return true;
}

unsigned Process::thread_count() {
  std::lock_guard lock(threads_mutex_);
  return static_cast<unsigned>(threads_.size());
}

void Process::exit_group(int code, int signal) noexcept {
  if (exiting_.exchange(true)) return;
  exit_code_ = code;
  exit_signal_ = signal;
  if (when_exiting) when_exiting();
  for_each_thread([](Thread& thread) { thread.kick(); });
  std::lock_guard lock(pause_mutex_);
  pause_changed_.notify_all();
}

void Process::broken(std::string const& why) noexcept {
  fmt::print(stderr, "vmsrs: the virtual machine failed: {}\n", why);
  exit_group(125);
}

void Process::state_changed() noexcept {
  if (!pausing_.load()) return;
  std::lock_guard lock(pause_mutex_);
  pause_changed_.notify_all();
}

void Process::park_if_pausing(Thread& thread, bool gate) {
  if (!pausing_.load() || (at_gates_.load() && !gate)) return;
  std::unique_lock lock(pause_mutex_);
  if (pauser_ == &thread) return;
  thread.state_.store(RunState::kParked);
  thread.at_gate_ = gate;
  pause_changed_.notify_all();
  // Parked inside a call: who stops all at their gates does not take that for one, even when this thread has slept
  // from the pause before until then.
  pause_changed_.wait(lock, [&] { return !pausing_.load() || (at_gates_.load() && !gate); });
  thread.at_gate_ = false;
  thread.state_.store(RunState::kMonitor);
}

void Process::pause_all(Thread* self) {
  std::unique_lock lock(pause_mutex_);
  while (pausing_.load()) {  // another pauser: be parked for it
    if (self != nullptr) self->state_.store(RunState::kParked), self->at_gate_ = true;
    pause_changed_.notify_all();
    pause_changed_.wait(lock, [&] { return !pausing_.load(); });
    if (self != nullptr) self->at_gate_ = false, self->state_.store(RunState::kMonitor);
  }
  pausing_.store(true);
  pauser_ = self;
  lock.unlock();
  // From here on no thread enters the guest: each checks pausing_ after it has announced kGuest.
  for_each_thread([&](Thread& thread) {
    if (&thread != self && thread.state() == RunState::kGuest) thread.kick();
  });
  lock.lock();
  pause_changed_.wait(lock, [&] {
    bool stopped = true;
    for_each_thread([&](Thread& thread) {
      RunState const state = thread.state();
      if (&thread != self && state != RunState::kParked && state != RunState::kBlocked) stopped = false;
    });
    return stopped;
  });
}

void Process::stop_at_gates() {
  std::unique_lock lock(pause_mutex_);
  pause_changed_.wait(lock, [&] { return !pausing_.load(); });
  at_gates_.store(true);
  pausing_.store(true);
  pauser_ = nullptr;
  pause_changed_.notify_all();  // to those that are still parked inside a call
  lock.unlock();
  // From here on no thread enters the guest or a call that may block: each looks after it has announced its state.
  for_each_thread([](Thread& thread) {
    if (RunState const state = thread.state(); state == RunState::kGuest || state == RunState::kBlocked) thread.kick();
  });
  lock.lock();
  pause_changed_.wait(lock, [&] {
    bool stopped = true;
    for_each_thread(
        [&](Thread& thread) { stopped = stopped && thread.state() == RunState::kParked && thread.at_gate_; });
    return stopped;
  });
}

void Process::resume_all() {
  std::lock_guard lock(pause_mutex_);
  at_gates_.store(false);
  pausing_.store(false);
  pauser_ = nullptr;
  pause_changed_.notify_all();
}

}  // namespace vmm
