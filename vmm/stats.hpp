// Counters of one run. Relaxed atomics: exact when read after the guest ended, a snapshot before.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace vmm {

struct Stats {
  std::atomic<uint64_t> kvm_exits{0}, kicks{0}, faults{0}, missing_traps{0}, hypercalls{0};
  std::atomic<uint64_t> threads_started{0}, vcpus_created{0}, peak_threads{0};
  std::array<std::atomic<uint64_t>, 512> syscalls{};  // by number
  std::atomic<uint64_t> unknown_syscalls{0};
};

}  // namespace vmm
