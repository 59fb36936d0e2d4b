// Guest memory as the store sees it: every guest address is looked up here, so none is used unchecked.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/store/types.hpp"

namespace vmsrs::store {

class Memory {
 public:
  void add(Range range) { ranges_.push_back(range); }

  // Where [guest, guest + size) lies in this process, or null if it is not wholly inside one range.
  void* at(uint64_t guest, uint64_t size) const {
    for (Range const& r : ranges_) {
      uint64_t const offset = guest - r.guest;
      if (offset < r.size && size <= r.size - offset) return static_cast<std::byte*>(r.host) + offset;
    }
    return nullptr;
  }
  // Where a host address lies in the file behind it; false: in none.
  bool offset_of(void const* host, uint64_t& offset) const {
    for (Range const& r : ranges_) {
      auto const at =
          static_cast<uint64_t>(static_cast<std::byte const*>(host) - static_cast<std::byte const*>(r.host));
      if (at >= r.size) continue;
      offset = r.offset + at;
      return true;
    }
    return false;
  }
  // The aligned word at guest, or null.
  uint64_t* word(uint64_t guest) const { return (guest & 7) != 0 ? nullptr : static_cast<uint64_t*>(at(guest, 8)); }

 private:
  std::vector<Range> ranges_;
};

// The pages that the store writes, for whoever takes checkpoints of the guest: a bit per page in a map that is shared
// with the monitor (vmm/dirty_map.hpp). Set once, before the first store; none: nobody asks.
struct WriteMarks {
  std::function<void(void const* host)> mark;
  static WriteMarks& instance() {
    static WriteMarks marks;
    return marks;
  }
};
inline void note_write(void const* p) {
  if (auto const& mark = WriteMarks::instance().mark) mark(p);
}

inline uint64_t load(uint64_t const* p) {
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
// A record of a ring, which the guest may be writing: only its check word says whether it is whole.
inline srs_record load(srs_record const* r) {
  auto const word = [](uint64_t const* p) { return __atomic_load_n(p, __ATOMIC_RELAXED); };
  return {word(&r->what), word(&r->a), word(&r->b), word(&r->check)};
}
inline bool swap(uint64_t* p, uint64_t& seen, uint64_t fresh) {
  note_write(p);
  return __atomic_compare_exchange_n(p, &seen, fresh, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE);
}

}  // namespace vmsrs::store
