// What processes of one host share for failure detection: the layout of the registry (registry.hpp), in which each
// monitor has a status page, each detector a seat, and the VM detector writes down what it found.
//
// Everything is a lock-free atomic, valid when all bytes are 0, and written by one process at a time: who that is
// stands at each block. Nobody ever waits for somebody else's lock, so a process that dies or is stopped in the middle
// of anything holds up nobody. Times are CLOCK_MONOTONIC ns, which all processes of a host share; 0: never.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace vmsrs::runtime::detect {

inline constexpr uint64_t kRegistryMagic = 0x3130'4454'4353'5256;  // a change of this file's layout changes it
inline constexpr unsigned kMaxVms = 128, kMaxThreads = 64, kMaxApps = 4, kMaxSeats = 8, kMaxHosts = 16;

// Text that one process writes and any may read: a sequence lock over words. A reader that meets a writer in the middle
// tries again some times, then takes what is there.
template <size_t Bytes>
class SharedText {
  static_assert(Bytes % 8 == 0);

 public:
  void set(std::string_view text) noexcept {
    std::array<uint64_t, Bytes / 8> words{};
    std::memcpy(words.data(), text.data(), std::min(text.size(), Bytes - 1));
    uint32_t const before = sequence_.load(std::memory_order_relaxed);
    sequence_.store(before | 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    for (size_t i = 0; i < words.size(); ++i) words_[i].store(words[i], std::memory_order_relaxed);
    sequence_.store((before | 1) + 1, std::memory_order_release);
  }
  [[nodiscard]] std::string get() const {
    std::array<uint64_t, Bytes / 8> words{};
    for (int attempt = 0; attempt < 200; ++attempt) {
      // The writer may wait for a processor in the middle of it.
      if (attempt > 20) usleep(50);
      uint32_t const before = sequence_.load(std::memory_order_acquire);
      for (size_t i = 0; i < words.size(); ++i) words[i] = words_[i].load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      if ((before & 1) == 0 && sequence_.load(std::memory_order_relaxed) == before) break;
    }
    auto const* const bytes = reinterpret_cast<char const*>(words.data());
    return {bytes, strnlen(bytes, Bytes - 1)};
  }

 private:
  std::atomic<uint32_t> sequence_{0};
  std::array<std::atomic<uint64_t>, Bytes / 8> words_{};
};

// A process, such that a pid that was used again is another one: pid, and the low half of its start time (proc.hpp).
using ProcessId = uint64_t;
constexpr ProcessId process_id(int pid, uint64_t start_ticks) {
  return static_cast<uint64_t>(static_cast<uint32_t>(pid)) << 32 | (start_ticks & 0xffff'ffff);
}
constexpr int pid_of(ProcessId id) {
  return static_cast<int>(id >> 32);
}

enum class Life : uint32_t { kNone, kStarting, kRunning, kEnded };
enum class Wanted : uint32_t { kRun, kStop };  // the operator's record

// A verdict as it stands in shared memory: FailureClass, Cause and evidence of verdict.hpp.
struct SharedVerdict {
  std::atomic<uint32_t> failure{0}, cause{0};
  std::atomic<uint64_t> since_ns{0};
  SharedText<160> evidence;
};

struct ThreadCounters {  // written by the monitor
  std::atomic<int32_t> tid{0};
  std::atomic<uint32_t> state{0};  // vmm::RunState
  std::atomic<int32_t> call{-1};   // the system call in which it is blocked; -1: none
  std::atomic<uint64_t> exits{0}, cpu_ns{0};
  std::atomic<uint64_t> progress_ns{0};  // when its counters were last seen to move other than by spinning
};

struct AppRecord {
  // Written by whoever registers the application; `registered` last.
  std::atomic<uint32_t> registered{0};
  std::atomic<uint32_t> timeout_ms{0}, period_ms{0}, start_ms{0};
  SharedText<64> name;
  SharedText<256> probe;  // probe.hpp; empty: local evidence only
  // Written by the application's detector, a thread of the monitor.
  std::atomic<uint64_t> beat_ns{0};
  std::atomic<uint64_t> probes{0}, answers{0}, answered_ns{0}, answer_us{0};
  SharedVerdict verdict;
};

struct VmRecord {
  std::atomic<ProcessId> owner{0};  // 0: the slot is free; taken by compare-and-swap
  // Written by the monitor.
  std::atomic<Life> life{Life::kNone};
  std::atomic<uint32_t> service{0};  // an end with status 0 is a failure too
  std::atomic<int32_t> exit_code{0}, exit_signal{0};
  std::atomic<int32_t> beat_tid{0};      // of the thread that beats
  std::atomic<uint32_t> stop_signal{0};  // by which somebody outside asked it to end
  std::atomic<uint64_t> started_ns{0}, ended_ns{0}, beat_ns{0}, beats{0}, beat_period_ms{0};
  std::atomic<uint64_t> kvm_exits{0}, exitless_calls{0}, hypercalls{0}, faults{0}, open_scopes{0};
  std::atomic<uint64_t> thread_count{0}, cpu_ns{0}, memory_refused{0}, fds_refused{0};
  SharedText<64> name;
  SharedText<128> program;
  std::array<ThreadCounters, kMaxThreads> threads;
  std::array<AppRecord, kMaxApps> apps;
  std::atomic<ProcessId> left{0};  // the last owner that gave the slot back
  // Written by the operator's commands.
  std::atomic<Wanted> wanted{Wanted::kRun};
  // Written by the VM detector.
  SharedVerdict verdict;
};

struct DetectorSeat {  // written by the detector that took it by compare-and-swap
  std::atomic<ProcessId> owner{0};
  std::atomic<uint64_t> beat_ns{0};
  std::atomic<uint64_t> period_us{0}, predicted_ppm{0}, sweeps{0}, looks{0}, cpu_ns{0}, started_ns{0};
};

struct HostRecord {  // written by the master
  std::atomic<uint32_t> used{0};
  SharedText<64> name, address;
  std::atomic<uint64_t> answered_ns{0}, answer_us{0};
  SharedVerdict verdict;
};

// Who is master and who backup: epoch << 8 | seat + 1. The epoch grows with each change of the master; a backup's word
// carries the epoch of the master who chose it.
struct RoleBoard {
  std::atomic<uint64_t> master{0}, backup{0};
  std::array<DetectorSeat, kMaxSeats> seats;
};

struct RegistryLayout {
  std::atomic<uint64_t> magic{0};
  std::atomic<uint32_t> doorbell{0};   // a futex: rung when something happened that a detector should see at once
  std::atomic<uint32_t> listening{0};  // detectors that listen for it
  RoleBoard roles;
  std::array<HostRecord, kMaxHosts> hosts;
  std::array<VmRecord, kMaxVms> vms;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<Life>::is_always_lock_free);

}  // namespace vmsrs::runtime::detect
