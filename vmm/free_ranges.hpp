// The free address ranges of a window, found by size in O(log n): the guest's allocators may map and unmap thousands of
// small pieces, and every search is made under the lock of the address space. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace vmm {

class FreeRanges {
 public:
  // [start, end) is free from now on; nothing of it was. Joined with its neighbours.
  void add(uint64_t start, uint64_t end);
  // [start, end), all of it free, is free no longer.
  void remove(uint64_t start, uint64_t end);
  // Where `size` bytes fit: the upper end of the smallest range that is large enough, the highest of equals; 0:
  // nowhere. So a mapping goes below the one made before it, as Linux places them, and holes are filled first.
  // With an alignment, a power of two: the highest such place there.
  [[nodiscard]] uint64_t find(uint64_t size, uint64_t alignment = 1) const;

 private:
  void insert(uint64_t start, uint64_t end);
  void erase(std::map<uint64_t, uint64_t>::iterator range);

  std::map<uint64_t, uint64_t> by_start_;            // start → end
  std::set<std::pair<uint64_t, uint64_t>> by_size_;  // size, start
};

}  // namespace vmm
