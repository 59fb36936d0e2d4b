#include "runtime/detect/guest_look.hpp"

#include <array>
#include <ctime>

#include "vmm/safe_copy.hpp"

namespace vmsrs::runtime::detect {
namespace {

// The CPU clock of a thread (pthread_getcpuclockid, which knows libc's own threads only, makes it in this way).
uint64_t cpu_ns_of(int host_tid) {
  constexpr unsigned kPerThread = 4, kScheduled = 2;
  timespec used{};
  auto const clock = static_cast<clockid_t>((~static_cast<unsigned>(host_tid) << 3) | kPerThread | kScheduled);
  if (host_tid == 0 || clock_gettime(clock, &used) != 0) return 0;
  return static_cast<uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(used.tv_nsec);
}

}  // namespace

std::vector<ThreadLook> look_at_threads(vmm::Process& process) {
  std::vector<ThreadLook> looks;
  process.for_each_thread([&](vmm::Thread& thread) {
    ThreadLook look;
    look.tid = thread.tid();
    vmm::RunState const state = thread.state();
    look.state = static_cast<uint32_t>(state);
    look.in_guest = state == vmm::RunState::kGuest;
    look.exits = thread.progress();
    look.cpu_ns = cpu_ns_of(thread.host_tid());
    if (state == vmm::RunState::kBlocked) {
      auto const wait = thread.wait();
      look.blocked = true;
      look.call = static_cast<int>(wait.call);
      // glibc's pthread_mutex_t: lock, count, owner. Other words than mutexes are read too; nonsense makes no cycle.
      std::array<uint32_t, 3> words{};
      if (wait.futex_word != 0) {
        look.unlimited_futex = true;
        if (vmm::vmm_safe_copy(words.data(), reinterpret_cast<void const*>(wait.futex_word), sizeof words) == 0) {
          look.word = words[0];
          look.owner = static_cast<int>(words[2]);
        }
      }
    }
    looks.push_back(look);
  });
  return looks;
}

}  // namespace vmsrs::runtime::detect
