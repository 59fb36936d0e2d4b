#include "vmm/free_ranges.hpp"

namespace vmm {

void FreeRanges::insert(uint64_t start, uint64_t end) {
  by_start_.emplace(start, end);
  by_size_.emplace(end - start, start);
}

void FreeRanges::erase(std::map<uint64_t, uint64_t>::iterator range) {
  by_size_.erase({range->second - range->first, range->first});
  by_start_.erase(range);
}

void FreeRanges::add(uint64_t start, uint64_t end) {
  if (start >= end) return;
  if (auto next = by_start_.find(end); next != by_start_.end()) {
    end = next->second;
    erase(next);
  }
  if (auto next = by_start_.lower_bound(start); next != by_start_.begin()) {
    if (auto before = std::prev(next); before->second == start) {
      start = before->first;
      erase(before);
    }
  }
  insert(start, end);
}

void FreeRanges::remove(uint64_t start, uint64_t end) {
  auto range = by_start_.upper_bound(start);
  if (start >= end || range == by_start_.begin()) return;
  --range;
  auto const [from, to] = *range;
  if (to < end) return;
  erase(range);
  if (from < start) insert(from, start);
  if (end < to) insert(end, to);
}

uint64_t FreeRanges::find(uint64_t size, uint64_t alignment) const {
  // In a range that is larger by the alignment there is a place for certain.
  auto const fit = by_size_.lower_bound({size + alignment - 1, 0});
  if (fit == by_size_.end()) return 0;
  auto const highest = std::prev(by_size_.upper_bound({fit->first, ~UINT64_C(0)}));
  return (highest->second + highest->first - size) & ~(alignment - 1);
}

}  // namespace vmm
