// Which pages of the guest's memory file the host's side has written: the monitor for the guest (results of system
// calls, mappings made and dropped) and the store process. What the guest itself writes is in KVM's dirty log
// (Vm::fetch_dirty), which does not see these.
//
// A bit per page of the file, in memory shared with processes forked later, so that the store process marks too.
// Nothing is marked until tracking is on; then a mark that is there already costs a load. Lock-free, thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "vmm/error.hpp"
#include "vmm/guest_addr.hpp"

namespace vmm {

class DirtyMap {
 public:
  DirtyMap() = default;
  // For a file of `size` bytes.
  Result<void> create(uint64_t size);
  ~DirtyMap();
  DirtyMap(DirtyMap const&) = delete;
  DirtyMap& operator=(DirtyMap const&) = delete;

  void track(bool on) noexcept;
  [[nodiscard]] bool tracking() const noexcept {
    return header_ != nullptr && header_->on.load(std::memory_order_relaxed);
  }

  // [offset, offset + size) of the file is about to be written, or was.
  void mark(uint64_t offset, uint64_t size) noexcept {
    if (!tracking() || size == 0) return;
    uint64_t const last = (offset + size - 1) / kPageSize;
    for (uint64_t page = offset / kPageSize; page <= last && page < pages_; ++page) {
      std::atomic<uint64_t>& word = words_[page / 64];
      uint64_t const bit = UINT64_C(1) << (page % 64);
      if ((word.load(std::memory_order_relaxed) & bit) == 0) word.fetch_or(bit, std::memory_order_relaxed);
    }
  }
  // Moves all marks into `to` (or-ed; a bit per page), with every writer at rest.
  void take(std::span<uint64_t> to) noexcept;

  [[nodiscard]] uint64_t pages() const noexcept { return pages_; }

 private:
  struct Header {
    std::atomic<bool> on{false};
  };
  Header* header_ = nullptr;  // the first page of the mapping
  std::atomic<uint64_t>* words_ = nullptr;
  uint64_t pages_ = 0, bytes_ = 0;
};

}  // namespace vmm
