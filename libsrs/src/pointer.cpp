// Class 4: pointers that must stay within their object; and the named ranges of srs_profile.
#include <srs/srs.h>

#include <cerrno>
#include <cstring>

#include "libsrs/src/arena.hpp"
#include "libsrs/src/monitored.hpp"
#include "libsrs/src/store.hpp"

namespace srs::lib {
namespace {

struct Range {
  uint64_t begin;
  uint64_t size;
};
constexpr uint32_t kMaxRanges = 4096;
Range ranges[kMaxRanges];
std::atomic<uint32_t> range_count{0};
std::atomic<uint32_t> range_lock{0};

// The object that holds `address` (or ends there, if none begins there).
Object object_of(uint64_t address) {
  Object const block = arena_object(address);
  if (block.size != 0) return block;
  Object ends_here{0, 0};
  for (uint32_t i = range_count.load(std::memory_order_acquire); i-- > 0;) {
    Range const& r = ranges[i];
    if (address - r.begin < r.size) return {r.begin, r.size};
    if (address - r.begin == r.size) ends_here = {r.begin, r.size};
  }
  return ends_here;
}

bool register_range(uint64_t begin, uint64_t size) {
  uint32_t idle = 0;
  while (!range_lock.compare_exchange_weak(idle, 1)) idle = 0;
  uint32_t const n = range_count.load(std::memory_order_relaxed);
  bool done = n < kMaxRanges;
  for (uint32_t i = 0; i < n; ++i) {
    if (ranges[i].begin == begin && ranges[i].size == size) {  // named again
      range_lock = 0;
      return true;
    }
  }
  if (done) {
    ranges[n] = {begin, size};
    range_count.store(n + 1, std::memory_order_release);
  }
  range_lock = 0;
  return done;
}

}  // namespace
}  // namespace srs::lib

using namespace srs::lib;

extern "C" int srs_profile(void const* address, size_t length, char const* name) {
  auto const begin = reinterpret_cast<uint64_t>(address);
  if (address == nullptr || length == 0 || begin + length < begin) {
    errno = EINVAL;
    return -1;
  }
  Thread* const t = thread();
  Critical critical(t);
  monitored_add(begin, length);
  if (!register_range(begin, length)) {
    errno = ENOSPC;
    return -1;
  }
  if (t != nullptr) {
    long const result = hypercall(SRS_HC_PROFILE, address, length, name != nullptr ? name : "");
    if (result < 0) {
      errno = static_cast<int>(-result);
      return -1;
    }
  }
  return 0;
}

extern "C" int srs_logged(void const* address, size_t length) {
  auto const begin = reinterpret_cast<uint64_t>(address);
  if (address == nullptr || length == 0 || begin + length < begin) {
    errno = EINVAL;
    return -1;
  }
  Thread* const t = thread();
  if (t == nullptr || restricted()) return 0;
  Critical critical(t);
  if (!srs_process_.strict) {
    // This thread's stores outside scopes would not be logged again: it gives its tags up.
    hypercall(SRS_HC_DRAIN);  // takes its records
    hypercall(SRS_HC_DRAIN);  // and knows that the last of them is made
    uint64_t const mine = srs_owner(t->slot->index, 0);
    for (uint64_t word = begin & ~UINT64_C(7); word < begin + length; word += 8) {
      uint64_t* const tag = tag_of(word);
      uint64_t seen = __atomic_load_n(tag, __ATOMIC_RELAXED);
      if (srs_tag_owner(seen) != mine) continue;
      __atomic_compare_exchange_n(tag, &seen, srs_tag_make(SRS_OWNER_RESTORED, srs_tag_seq(seen) + 1, 0), false,
                                  __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
  }
  long const result = hypercall(SRS_HC_LOGGED, address, length);
  if (result == 0) return 0;
  errno = static_cast<int>(-result);
  return -1;
}

extern "C" void* srs_ptr_add(void const* p, ptrdiff_t n) {
  auto const from = reinterpret_cast<uint64_t>(p);
  uint64_t const to = from + static_cast<uint64_t>(n);
  Object const object = object_of(from);
  if (object.size == 0) {
    report_fault(SRS_FAULT_POINTER, "srs_ptr_add on a pointer into no known object");
  } else if (to - object.begin > object.size) {
    report_fault(SRS_FAULT_POINTER, "srs_ptr_add leaves the object");
  }
  return reinterpret_cast<void*>(to);
}

extern "C" void* srs_ptr_check(void const* p, size_t n) {
  auto const from = reinterpret_cast<uint64_t>(p);
  Object const object = object_of(from);
  if (object.size == 0) {
    report_fault(SRS_FAULT_POINTER, "srs_ptr_check on a pointer into no known object");
  } else if (n > object.size - (from - object.begin)) {
    report_fault(SRS_FAULT_POINTER, "srs_ptr_check: the bytes reach beyond the object");
  }
  return const_cast<void*>(p);
}
