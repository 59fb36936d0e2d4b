// A guest process as data: everything but the bytes of its memory. What capture.cpp takes and restore.cpp makes.
//
// `visit` of each structure is its layout in the stream; a change of it bumps kStateVersion.
#pragma once

#include <sys/timerfd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/address_space.hpp"
#include "vmm/checkpoint/archive.hpp"
#include "vmm/checkpoint/fd_state.hpp"
#include "vmm/registers.hpp"
#include "vmm/signals.hpp"

namespace vmm {

inline constexpr uint32_t kStateVersion = 1;
inline constexpr size_t kXsaveBytes = 4096;

struct PendingState {
  int signal = 0;
  siginfo_t info{};
  int sender_tid = 0;
  bool of_timer = false;
  int timer_id = 0;
};

struct ThreadImage {
  int tid = 0;
  uint32_t vcpu = 0;
  Registers regs;  // gs_base 0: none of its own
  std::vector<std::byte> xsave;
  std::string name;
  uint64_t blocked = 0;
  bool has_saved_mask = false;
  uint64_t saved_mask = 0;
  uint64_t alt_stack = 0, alt_size = 0;
  int alt_flags = 2;
  std::array<uint64_t, 3> trap{};
  std::vector<PendingState> pending;
  uint64_t clear_child_tid = 0, robust_list = 0;
  // A call that is to be made again.
  bool in_call = false;
  uint64_t call_nr = 0;
  int64_t call_result = 0;
  int64_t deadline = 0;  // CLOCK_MONOTONIC ns, 0: none
  uint64_t sent = 0;
};

struct TimerState {
  int id = 0;
  int clock = 0;  // GuestTimers::Clock
  int host_clock = 0;
  int signal = 0, tid = 0;
  uint64_t value = 0;
  bool value_is_id = false, interval_timer = false;
  itimerspec left{};  // relative
  int last_overrun = 0;
};

struct ProcessState {
  uint32_t version = kStateVersion;
  uint64_t window = 0;
  uint64_t vdso_hash = 0;    // of the image that the guest's memory holds
  uint64_t time_page = 0;    // guest address; 0: none
  int64_t monotonic_ns = 0;  // the guest's, when it stood still
  int64_t realtime_ns = 0;
  AddressSpace::Layout layout;
  std::array<KernelSigaction, kSignals + 1> actions{};
  std::vector<PendingState> pending;
  int next_timer = 0;
  std::vector<TimerState> timers;
  std::vector<ThreadImage> threads;
  int next_tid = 0;
  std::string exe_path, command_name, cwd;
  std::vector<std::string> argv, envp;
  uint32_t umask = 022;
  FdState fds;
};

std::vector<std::byte> encode(ProcessState& state);
// Errc::kBadCheckpoint: the bytes are no such state.
Result<ProcessState> decode_process_state(std::span<std::byte const> bytes);

}  // namespace vmm
