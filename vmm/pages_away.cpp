// The part of AddressSpace that takes pages from the guest and brings them back.
#include <sys/mman.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "vmm/address_space.hpp"

namespace vmm {
namespace {

// Host mappings that pages away may need at most, of the 65,530 that vm.max_map_count allows by default.
constexpr uint64_t kMaxAwayMappings = 60'000;

// A run of pages away splits the mapping around it; at worst every second page of it comes back before the others.
// Bringing pages back never raises the sum over all runs, so a bound kept when pages are taken holds until they are
// back.
uint64_t mappings_of_run(uint64_t size) {
  return 2 * ((size / kPageSize + 1) / 2);
}

// The pages, in order, as runs [start, end) of neighbours.
std::vector<std::pair<uint64_t, uint64_t>> runs_of(std::span<GuestAddr const> pages) {
  std::vector<uint64_t> sorted;
  sorted.reserve(pages.size());
  for (GuestAddr page : pages) sorted.push_back(page_down(page.value));
  std::ranges::sort(sorted);
  std::vector<std::pair<uint64_t, uint64_t>> runs;
  for (uint64_t const page : sorted) {
    if (runs.empty() || page > runs.back().second) runs.emplace_back(page, page);
    runs.back().second = page + kPageSize;
  }
  return runs;
}

}  // namespace

bool AddressSpace::take_away(std::span<GuestAddr const> pages) {
  auto const runs = runs_of(pages);
  std::unique_lock lock(mutex_);
  uint64_t needed = 0;
  for (auto const& [start, end] : runs) needed += mappings_of_run(end - start);
  for (auto const& [start, end] : away_) needed += mappings_of_run(end - start);
  if (needed > kMaxAwayMappings) return false;
  auto const before = away_;
  uint64_t const count_before = away_count_;
  for (auto run = runs.begin(); run != runs.end(); ++run) {
    auto const [start, end] = *run;
    if (::mprotect(reinterpret_cast<void*>(start), end - start, PROT_NONE) != 0) {
      away_ = before;
      away_count_ = count_before;
      for (++run; run != runs.begin();) {
        --run;
        protect_as_mapped(run->first, run->second);
      }
      return false;
    }
    mark_away(start, end);
  }
  return true;
}

void AddressSpace::mark_away(uint64_t start, uint64_t end) {
  auto it = away_.upper_bound(start);
  if (it != away_.begin() && std::prev(it)->second >= start) --it;
  uint64_t from = start, to = end, already = 0;
  while (it != away_.end() && it->first <= end) {  // those that overlap or touch become one
    uint64_t const low = std::max(start, it->first), high = std::min(end, it->second);
    if (low < high) already += high - low;
    from = std::min(from, it->first);
    to = std::max(to, it->second);
    it = away_.erase(it);
  }
  away_[from] = to;
  away_count_ += (end - start - already) / kPageSize;
}

void AddressSpace::bring_back(std::span<GuestAddr const> pages) {
  auto const runs = runs_of(pages);
  std::unique_lock lock(mutex_);
  for (auto const& [start, end] : runs) {
    auto it = away_.upper_bound(start);
    if (it != away_.begin() && std::prev(it)->second > start) --it;
    while (it != away_.end() && it->first < end) {
      auto const [from, to] = *it;
      it = away_.erase(it);
      if (from < start) away_[from] = start;
      if (to > end) away_[end] = to;
      uint64_t const low = std::max(start, from), high = std::min(end, to);
      away_count_ -= (high - low) / kPageSize;
      protect_as_mapped(low, high);
    }
  }
}

bool AddressSpace::is_away(GuestAddr addr) const {
  std::shared_lock lock(mutex_);
  auto it = away_.upper_bound(page_down(addr.value));
  return it != away_.begin() && std::prev(it)->second > addr.value;
}

}  // namespace vmm
