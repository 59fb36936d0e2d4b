// Who waits for whom among a guest's threads: the proof of a deadlock that needs no time-out.
//
// A thread blocked in a futex wait without a limit of time names a word. If that word is the lock word of a contended
// pthread mutex (glibc's layout: lock 2, the owner's id 8 bytes further), the thread waits for that owner. A cycle of
// such threads cannot be broken by any of them. One look could meet threads in passing, so a proof takes two looks
// between which no thread of the cycle made a step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vmsrs::runtime::detect {

struct ThreadLook {
  int tid = 0;
  uint32_t state = 0;     // vmm::RunState
  bool blocked = false;   // in a system call
  bool in_guest = false;  // runs guest code
  int call = -1;          // which, if blocked
  bool unlimited_futex = false;
  uint32_t word = 0;   // what the futex word holds, if so
  int owner = 0;       // and the number at a mutex's place of the owner
  uint64_t exits = 0;  // how often it left the guest
  uint64_t cpu_ns = 0;
};

// Threads that wait for each other in a circle, in order; empty: none. `looks` by ascending tid.
std::vector<int> lock_cycle(std::vector<ThreadLook> const& looks);

class WaitGraph {
 public:
  // A look at all threads, `passed_ns` after the one before.
  void look(std::vector<ThreadLook> looks, uint64_t passed_ns);
  // Of the last two looks.
  [[nodiscard]] std::string const& proven_cycle() const { return cycle_text_; }  // empty: none
  [[nodiscard]] bool all_blocked() const { return all_blocked_; }
  // A thread that was in guest code all the time between, made no exit, and computed for at least an eighth of it:
  // empty: none. (An eighth, since a busy host gives it no more.)
  [[nodiscard]] std::string const& spinning() const { return spinning_; }

 private:
  std::vector<ThreadLook> before_;
  std::vector<int> cycle_before_;
  std::string cycle_text_, spinning_;
  bool all_blocked_ = false;
};

}  // namespace vmsrs::runtime::detect
