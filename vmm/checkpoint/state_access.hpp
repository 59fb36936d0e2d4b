// What a checkpoint reads and writes of objects that show it to nobody else.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "vmm/checkpoint/process_state.hpp"
#include "vmm/guest_process.hpp"
#include "vmm/guest_timers.hpp"
#include "vmm/syscalls/signalfd.hpp"

namespace vmm {

class StateAccess {
 public:
  static void capture_signals(GuestProcess& process, ProcessState& state);
  static void restore_signals(GuestProcess& process, ProcessState const& state);
  // Pending signals of one thread: after the timers are there, before it runs.
  static void capture_pending(GuestProcess& process, Thread& thread, ThreadImage& image);
  static void restore_pending(GuestProcess& process, ThreadImage const& image);

  // No timer's signal is between its expiry and its queue while this is held.
  static std::unique_lock<std::mutex> hold_timers(GuestProcess& process);
  static void capture_timers(GuestProcess& process, ProcessState& state);
  static Result<void> restore_timers(GuestProcess& process, ProcessState const& state);

  static void capture_threads(GuestProcess& process, ProcessState& state, bool& ok);
  static Result<void> restore_threads(GuestProcess& process, ProcessState const& state);

  static std::vector<std::pair<int, int>> epoll_fds(OpenFile& file) {
    std::lock_guard const lock(file.epoll_mutex_);
    return file.epoll_fds_;
  }
  static uint64_t signal_mask(SignalFd& file) { return file.mask_; }

 private:
  static PendingState to_state(GuestTimers const* timers, PendingSignal const& signal);
  static PendingSignal from_state(GuestTimers* timers, PendingState const& state);
};

}  // namespace vmm
