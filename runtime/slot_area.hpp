// The slots and rings that libsrs and the host share, in guest memory. The host keeps its own copy of what it must not
// believe from there: where each ring is, its size and its key.
//
// Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "srs/abi.h"
#include "vmm/address_space.hpp"

namespace vmsrs::runtime {

inline constexpr uint64_t kRingRecords = 4096;

class SlotArea {
 public:
  // Takes guest memory for all slots and rings; pages not used cost nothing.
  static vmm::Result<SlotArea> create(vmm::AddressSpace& memory);
  // For a checkpoint: what is not in guest memory. Keys of the slots that were ever used, and those that are free.
  struct Saved {
    uint64_t top = 1;
    std::vector<uint64_t> keys, free;
  };
  [[nodiscard]] Saved save();
  [[nodiscard]] bool load(Saved const& saved);  // false: it makes no sense
  [[nodiscard]] uint64_t used_bytes() const { return top() * sizeof(srs_slot); }

  // A free slot, set up for a thread with this virtual id; 0: none left. The slot keeps the head and the scope numbers
  // of its last thread, so that no record or owner is ever used twice.
  uint64_t take(int tid);
  void give_back(uint64_t index);

  [[nodiscard]] uint64_t address(uint64_t index) const { return base_ + index * sizeof(srs_slot); }
  [[nodiscard]] uint64_t base() const { return base_; }
  [[nodiscard]] uint64_t ring(uint64_t index) const { return rings_ + index * kRingRecords * sizeof(srs_record); }
  [[nodiscard]] uint64_t key(uint64_t index) const { return keys_[index]; }
  // The slot as the host reaches it whatever the guest does to its own mappings. What it says may be nonsense.
  [[nodiscard]] srs_slot* host(uint64_t index) const { return slots_ + index; }

  // Slots ever used lie below it.
  [[nodiscard]] uint64_t top() const { return top_.load(std::memory_order_acquire); }

  SlotArea(SlotArea&& o) noexcept;

 private:
  SlotArea() = default;
  uint64_t base_ = 0, rings_ = 0;
  srs_slot* slots_ = nullptr;
  std::atomic<uint64_t> top_{1};
  std::mutex mutex_;
  std::vector<uint64_t> free_;
  std::array<uint64_t, SRS_MAX_SLOTS> keys_{};
};

}  // namespace vmsrs::runtime
