// The part of AddressSpace that a checkpoint takes and a restore makes: the map of mappings.
#include <fmt/format.h>
#include <sys/mman.h>

#include <mutex>

#include "vmm/address_space.hpp"
#include "vmm/guest_memory_file.hpp"
#include "vmm/host_mapping.hpp"

namespace vmm {

void AddressSpace::mark_written(GuestAddr addr, uint64_t size) noexcept {
  uint64_t const offset = addr.value < kLowEnd ? addr.value : addr.value - kHighBase;
  if (dirty_.tracking() && offset < 2 * window_) dirty_.mark(offset, size);
}

AddressSpace::Layout AddressSpace::layout() const {
  std::shared_lock lock(mutex_);
  Layout layout{{}, locked_, brk_start_, brk_};
  layout.vmas.reserve(vmas_.size());
  for (auto const& [start, vma] : vmas_) layout.vmas.push_back(vma);
  return layout;
}

Result<void> AddressSpace::restore_layout(Layout const& layout, std::function<int(Vma const&)> const& open_file) {
  std::unique_lock lock(mutex_);
  auto const refuse = [](Vma const& vma, char const* why) {
    return fail(Errc::kBadCheckpoint,
                fmt::format("mapping {:#x}-{:#x} {}: {}", vma.start.value, vma.end.value, vma.name, why));
  };
  uint64_t last = 0;
  for (Vma const& vma : layout.vmas) {
    uint64_t const start = vma.start.value, end = vma.end.value;
    if (start < last || start >= end || start % kPageSize != 0 || end % kPageSize != 0 || !in_windows(start, end)) {
      return refuse(vma, "out of place");
    }
    last = end;
    if (auto const made = vmas_.find(start); made != vmas_.end()) {
      if (made->second.end != vma.end || made->second.name != vma.name) {
        return refuse(vma, "this monitor has something else there");
      }
      continue;
    }
    if (!is_free(start, end)) return refuse(vma, "this monitor has something else there");
    if (vma.backing == Backing::kSharedFile) {
      ScopedFd const file(open_file(vma));
      if (file.get() < 0) return fail_host(fmt::format("opening {}, which the guest maps", vma.name), -file.get());
      if (::mmap(at(start), end - start, host_prot(vma.prot), MAP_SHARED | MAP_FIXED, file.get(),
                 static_cast<off_t>(vma.file_offset)) == MAP_FAILED) {
        return fail_host(fmt::format("mmap of {}", vma.name));
      }
    } else {
      if (vma.advised) advise_host(start, end, MADV_HUGEPAGE);
      if (!host_protect(start, end, vma.prot)) return refuse(vma, "mprotect failed");
    }
    Vma mine = vma;
    mine.holds = {};  // that file may be another one here
    vmas_.emplace(start, std::move(mine));
    free_around(start).remove(start, end);
  }
  for (auto const& [start, vma] : vmas_) {
    bool known = false;
    for (Vma const& saved : layout.vmas) known = known || saved.start.value == start;
    if (!known) return refuse(vma, "not in the checkpoint");
  }
  locked_ = layout.locked;
  brk_start_ = layout.brk_start;
  brk_ = layout.brk;
  return {};
}

}  // namespace vmm
