#include "vmm/clock.hpp"

#include <cerrno>

#include "vmm/process.hpp"
#include "vmm/thread.hpp"
#include "vmm/time_page.hpp"

namespace vmm {
namespace {

// Encoding of dynamic clock ids (linux/posix-timers.h): complement of the id, a bit for "one
// thread", two bits for what is counted.
constexpr unsigned kPerThread = 4, kKindMask = 3, kKindFd = 3, kKindScheduled = 2;
constexpr clockid_t kHighestClock = CLOCK_TAI;
constexpr clockid_t kNoSuchClock = 10;  // CLOCK_SGI_CYCLE: gone from Linux

}  // namespace

std::optional<clockid_t> host_clock(Thread& thread, clockid_t clock) {
  if (clock >= 0) {
    if (clock > kHighestClock || clock == kNoSuchClock) return std::nullopt;
    return clock;
  }
  auto const bits = static_cast<unsigned>(clock);
  if ((bits & kKindMask) == kKindFd) return std::nullopt;  // a device's clock, by fd
  int const id = ~(clock >> 3);
  if (!(bits & kPerThread)) {
    if (id != 0 && id != Process::pid()) return std::nullopt;
    if ((bits & kKindMask) == kKindScheduled) return CLOCK_PROCESS_CPUTIME_ID;
    return static_cast<clockid_t>(bits & 7);  // id 0 is the caller's process
  }
  int host_tid = 0;
  if (id == 0 || id == thread.tid()) {
    if ((bits & kKindMask) == kKindScheduled) return CLOCK_THREAD_CPUTIME_ID;
    host_tid = thread.host_tid();
  } else {
    thread.process().with_thread(id, [&](Thread& other) { host_tid = other.host_tid(); });
  }
  if (host_tid == 0) return std::nullopt;
  return static_cast<clockid_t>((~static_cast<unsigned>(host_tid) << 3) | (bits & 7));
}

clockid_t thread_cpu_clock(Thread& thread) {
  return static_cast<clockid_t>((~static_cast<unsigned>(thread.host_tid()) << 3) | kPerThread | kKindScheduled);
}

int read_guest_clock(Thread& thread, clockid_t clock, timespec& now) {
  int64_t ns = 0;
  auto const& page = thread.process().time_page;
  if (page && page->read(clock, ns)) {
    now = to_timespec(ns);
    return 0;
  }
  auto const host = host_clock(thread, clock);
  if (!host) return -EINVAL;
  return clock_gettime(*host, &now) == 0 ? 0 : -errno;
}

}  // namespace vmm
