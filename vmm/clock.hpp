// The guest's clocks as the monitor's own handlers read them: by the same figures as the guest's
// vDSO, so that a time from a call and a time from the vDSO never run backwards against each other.
// Thread-safe.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>

namespace vmm {

class Process;
class Thread;

inline constexpr int64_t kNsPerSecond = 1'000'000'000;

[[nodiscard]] constexpr int64_t to_ns(timespec const& t) {
  return t.tv_sec * kNsPerSecond + t.tv_nsec;
}
// Ns below 0 are times before the epoch: tv_nsec stays in 0 .. 999,999,999.
[[nodiscard]] constexpr timespec to_timespec(int64_t ns) {
  int64_t seconds = ns / kNsPerSecond, rest = ns % kNsPerSecond;
  if (rest < 0) {
    seconds--;
    rest += kNsPerSecond;
  }
  return {seconds, rest};
}

// The host's clock id for the guest's, nullopt: no such clock. Dynamic ids (bits 3.. are the
// complement of a process or thread id, clock_getcpuclockid(3)) name virtual ids.
[[nodiscard]] std::optional<clockid_t> host_clock(Thread& thread, clockid_t guest_clock);

// The host's id of a thread's CPU clock, for other host threads to read.
[[nodiscard]] clockid_t thread_cpu_clock(Thread& thread);

// 0 or -errno; `clock` is a guest's id.
int read_guest_clock(Thread& thread, clockid_t clock, timespec& now);

}  // namespace vmm
