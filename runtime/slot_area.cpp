#include "runtime/slot_area.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cstddef>

namespace vmsrs::runtime {

SlotArea::SlotArea(SlotArea&& o) noexcept
    : base_(o.base_), rings_(o.rings_), slots_(o.slots_), top_(o.top()), free_(std::move(o.free_)), keys_(o.keys_) {}

vmm::Result<SlotArea> SlotArea::create(vmm::AddressSpace& memory) {
  constexpr uint64_t kSlotBytes = SRS_MAX_SLOTS * sizeof(srs_slot);
  constexpr uint64_t kRingBytes = SRS_MAX_SLOTS * kRingRecords * sizeof(srs_record);
  auto at = memory.map_shared_area(kSlotBytes + kRingBytes, "[srs]");
  if (!at) return tl::unexpected(at.error());
  SlotArea area;
  area.base_ = at->value;
  area.rings_ = at->value + kSlotBytes;
  area.slots_ = reinterpret_cast<srs_slot*>(memory.alias(*at));
  if (getrandom(area.keys_.data(), sizeof area.keys_, 0) != static_cast<ssize_t>(sizeof area.keys_)) {
    return vmm::fail_host("getrandom");
  }
  for (uint64_t i = SRS_MAX_SLOTS - 1; i > 0; --i) area.free_.push_back(i);
  return area;
}

uint64_t SlotArea::take(int tid) {
  std::lock_guard lock(mutex_);
  if (free_.empty()) return 0;
  uint64_t const index = free_.back();
  free_.pop_back();
  srs_slot& slot = slots_[index];
  slot.index = index;
  slot.ring = ring(index);
  slot.ring_records = kRingRecords;
  slot.key = keys_[index];
  slot.tid = static_cast<uint64_t>(tid);
  slot.tail = slot.head;
  slot.depth = 0;
  slot.owner = srs_owner(index, 0);
  slot.pending = 0;
  if (index >= top_.load()) top_.store(index + 1);
  return index;
}

void SlotArea::give_back(uint64_t index) {
  std::lock_guard lock(mutex_);
  free_.push_back(index);
}

SlotArea::Saved SlotArea::save() {
  std::lock_guard lock(mutex_);
  Saved saved{top(), {}, free_};
  saved.keys.assign(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(saved.top));
  return saved;
}

bool SlotArea::load(Saved const& saved) {
  std::lock_guard lock(mutex_);
  if (saved.top == 0 || saved.top > SRS_MAX_SLOTS || saved.keys.size() != saved.top) return false;
  for (uint64_t const index : saved.free) {
    if (index == 0 || index >= SRS_MAX_SLOTS) return false;
  }
  std::ranges::copy(saved.keys, keys_.begin());
  free_ = saved.free;
  top_ = saved.top;
  return true;
}

}  // namespace vmsrs::runtime
