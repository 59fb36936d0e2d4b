#include "vmm/dirty_map.hpp"

#include <sys/mman.h>

#include <new>

namespace vmm {

Result<void> DirtyMap::create(uint64_t size) {
  pages_ = size / kPageSize;
  bytes_ = kPageSize + (pages_ + 63) / 64 * sizeof(uint64_t);
  void* const at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return fail_host("mmap of the map of written pages");
  header_ = new (at) Header;
  words_ = reinterpret_cast<std::atomic<uint64_t>*>(static_cast<std::byte*>(at) + kPageSize);
  return {};
}

DirtyMap::~DirtyMap() {
  if (header_ != nullptr) munmap(header_, bytes_);
}

void DirtyMap::track(bool on) noexcept {
  if (header_ != nullptr) header_->on.store(on);
}

void DirtyMap::take(std::span<uint64_t> to) noexcept {
  for (uint64_t i = 0; i < (pages_ + 63) / 64 && i < to.size(); ++i) {
    if (words_[i].load(std::memory_order_relaxed) != 0) to[i] |= words_[i].exchange(0, std::memory_order_relaxed);
  }
}

}  // namespace vmm
