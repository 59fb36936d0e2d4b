// On which processors guest threads run: each where the guest said, less those that pollers have reserved for
// themselves (vmm/pollers.hpp). The guest sees only its own choice.
//
// Thread-safe.
#pragma once

#include <sched.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

namespace vmm {

class Placement {
 public:
  // A host thread begins to run a guest thread whose own choice is `own`; and ends to.
  void adopt(int host_tid, cpu_set_t const& own) noexcept;
  void forget(int host_tid) noexcept;
  // A guest thread's own choice; of a thread that is none, the host's.
  [[nodiscard]] cpu_set_t own(int host_tid) noexcept;

  // sched_getaffinity and sched_setaffinity of the guest: the system calls' results, -errno.
  int64_t get(int host_tid, size_t size, void* to) noexcept;
  int64_t set(int host_tid, size_t size, void const* from) noexcept;

  // Keeps guest threads off these processors (none: off no more). Those that chose no other stay where they are.
  void reserve(cpu_set_t const& processors) noexcept;

 private:
  void apply(int host_tid, cpu_set_t const& own) const noexcept;

  std::mutex mutex_;
  std::map<int, cpu_set_t> own_;  // by host thread
  cpu_set_t reserved_{};
};

}  // namespace vmm
