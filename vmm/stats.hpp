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
  // Exitless calls (vmm/pollers.hpp): answered without an exit, by number, and hypercalls; posts that the guest gave up
  // spinning for, of these those that no poller had looked at; mailboxes found damaged.
  std::array<std::atomic<uint64_t>, 512> exitless{};
  std::array<std::atomic<uint64_t>, 512> spun_out_calls{};
  std::atomic<uint64_t> exitless_calls{0}, exitless_hypercalls{0}, spun_out{0}, posts_missed{0}, mailbox_damaged{0};
  std::atomic<uint64_t> pollers_started{0}, pollers_replaced{0}, polling_suspended{0};
  // How often pollers got processors of their own; exits were tried in their place, and were faster.
  std::atomic<uint64_t> processors_reserved{0}, exits_tried{0}, exits_faster{0};
  std::atomic<int64_t> exit_ns{0};                           // KvmTraits::exit_ns
  std::atomic<uint64_t> sites_patched{0}, sites_refused{0};  // vmm/call_sites.hpp
  std::atomic<uint64_t> unknown_syscalls{0};
  std::atomic<uint64_t> memory_refused{0}, fds_refused{0};  // calls answered with ENOMEM; with EMFILE or ENFILE
};

}  // namespace vmm
