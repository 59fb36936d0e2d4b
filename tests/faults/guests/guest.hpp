// What the guest programs share: a check that tells and counts, threads that take turns, monitored words.
#ifndef VMSRS_TESTS_FAULTS_GUEST_HPP
#define VMSRS_TESTS_FAULTS_GUEST_HPP

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <srs/srs.hpp>
#include <string>
#include <thread>
#include <vector>

namespace guest {

inline std::atomic<int> failures{0};

inline void check(bool good, char const* what, int line) {
  if (good) return;
  failures += 1;
  fprintf(stderr, "line %d: not so: %s\n", line, what);
}
#define CHECK(condition) guest::check((condition), #condition, __LINE__)

inline void check_equal(uint64_t is, uint64_t wanted, char const* what, int line) {
  if (is == wanted) return;
  failures += 1;
  fprintf(stderr, "line %d: %s is %llu, not %llu\n", line, what, static_cast<unsigned long long>(is),
          static_cast<unsigned long long>(wanted));
}
#define CHECK_EQ(is, wanted) guest::check_equal(static_cast<uint64_t>(is), static_cast<uint64_t>(wanted), #is, __LINE__)

// The guest's exit status, and its one line on standard output.
inline int end() {
  printf("%s\n", failures == 0 ? "well" : "failed");
  return failures == 0 ? 0 : 1;
}

// Threads that do numbered steps one after the other.
class Turns {
 public:
  void wait(int step) const {
    while (now_.load() < step) usleep(50);
  }
  void done(int step) { now_.store(step + 1); }

 private:
  std::atomic<int> now_{0};
};

// n words of monitored memory at the beginning of a page, with nothing else on their pages.
inline uint64_t* words(size_t n) {
  size_t const bytes = (n * 8 + 4095) & ~size_t{4095};
  auto* const p = static_cast<uint64_t*>(srs_aligned_alloc(4096, bytes));
  if (p == nullptr) abort();
  memset(p, 0, bytes);
  return p;
}

inline void bad_store() {
  uint64_t* volatile bad = reinterpret_cast<uint64_t*>(uint64_t{0x10});
  *bad = 1;
}

inline srs_fault_info last_fault() {
  srs_fault_info info{};
  if (srs_last_fault(&info) != 1) info.kind = SRS_FAULT_NONE;
  return info;
}

}  // namespace guest

#endif
