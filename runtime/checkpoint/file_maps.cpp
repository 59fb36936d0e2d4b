#include "runtime/checkpoint/file_maps.hpp"

#include <algorithm>

namespace vmsrs::checkpoint {

void FileMaps::look(vmm::AddressSpace const& memory, bool all, std::span<uint64_t> dirty) {
  std::vector<Range> now;
  for (vmm::Vma const& vma : memory.file_maps()) {
    uint64_t const at = vma.start.value < vmm::kLowEnd ? vma.start.value : vma.start.value - vmm::kHighBase;
    uint64_t const first = at / vmm::kPageSize;
    now.push_back({first, first + (vma.end - vma.start) / vmm::kPageSize, vma.start, vma.holds, vma.file_offset});
  }
  auto const mark = [&](Range const& range) {
    for (uint64_t page = range.first; page < range.end && page / 64 < dirty.size(); ++page)
      dirty[page / 64] |= UINT64_C(1) << (page % 64);
  };
  for (Range const& range : now) {
    if (all || std::ranges::find(ranges_, range) == ranges_.end()) mark(range);
  }
  for (Range const& range : ranges_) {
    if (std::ranges::find(now, range) == now.end()) mark(range);
  }
  ranges_ = std::move(now);
}

bool FileMaps::covers(uint64_t page) const {
  return std::ranges::any_of(ranges_, [page](Range const& r) { return r.first <= page && page < r.end; });
}

bool FileMaps::copy(vmm::AddressSpace const& memory, uint64_t page, std::byte* to) const {
  for (Range const& range : ranges_) {
    if (page < range.first || page >= range.end) continue;
    return memory.read_file_map(range.start + (page - range.first) * vmm::kPageSize, to, vmm::kPageSize);
  }
  return false;
}

}  // namespace vmsrs::checkpoint
