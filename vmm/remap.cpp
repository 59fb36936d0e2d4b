// The part of AddressSpace that is mremap.
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "vmm/address_space.hpp"
#include "vmm/host_mapping.hpp"

namespace vmm {

// The file is no longer at hand, but its mapping is: asked to move 0 bytes of it, the host maps the same pages a second
// time. The old place stays mapped until drop() takes it back, so it is a hole at no time. old_size 0: both stay.
int64_t AddressSpace::remap_shared_file(Vma const& vma, uint64_t old, uint64_t old_size, uint64_t new_size, int flags,
                                        uint64_t fixed) {
  bool const in_place = !(flags & MREMAP_FIXED) && old_size != 0 && in_windows(old, old + new_size) &&
                        is_free(old + old_size, old + new_size);
  if (!in_place && !(flags & MREMAP_MAYMOVE)) return old_size == 0 ? -EINVAL : -ENOMEM;
  uint64_t const to = in_place ? old : (flags & MREMAP_FIXED) ? fixed : find_free(new_size, 0);
  if (to == 0) return -ENOMEM;
  void* const twin = ::mremap(at(old), 0, new_size, MREMAP_MAYMOVE);
  if (twin == MAP_FAILED) return -errno;
  uint64_t const kept = in_place ? old_size : 0;  // of the old mapping; the rest is the twin's
  if (!drop(to + kept, to + new_size)) {
    ::munmap(twin, new_size);
    return -ENOMEM;
  }
  if (::mremap(static_cast<std::byte*>(twin) + kept, new_size - kept, new_size - kept, MREMAP_MAYMOVE | MREMAP_FIXED,
               at(to + kept)) == MAP_FAILED) {
    broken("moving a file's mapping", to + kept, new_size - kept);
  }
  if (kept != 0) ::munmap(twin, kept);
  Vma moved = vma;
  moved.start = in_place ? vma.start : GuestAddr(to);
  moved.end = GuestAddr(to + new_size);
  if (!in_place) moved.file_offset += old - vma.start.value;
  vmas_.insert_or_assign(moved.start.value, std::move(moved));
  free_around(to).remove(to + kept, to + new_size);
  if (!in_place && !drop(old, old + old_size)) broken("unmapping what mremap has moved", old, old_size);
  return static_cast<int64_t>(to);
}

int64_t AddressSpace::remap_locked(uint64_t old, uint64_t old_size, uint64_t new_size, int flags, uint64_t fixed) {
  auto it = vmas_.upper_bound(old);
  if (it == vmas_.begin() || std::prev(it)->second.end.value < old + std::max<uint64_t>(old_size, 1)) return -EFAULT;
  Vma const vma = std::prev(it)->second;
  if (old_size == 0 && vma.backing != Backing::kSharedFile) return -EINVAL;
  if (!(flags & MREMAP_FIXED) && new_size <= old_size) {
    return drop(old + new_size, old + old_size) ? static_cast<int64_t>(old) : -ENOMEM;
  }
  if (vma.backing == Backing::kSharedFile) return remap_shared_file(vma, old, old_size, new_size, flags, fixed);
  if (!(flags & MREMAP_FIXED) && in_windows(old, old + new_size) && is_free(old + old_size, old + new_size)) {
    return place(old + old_size, new_size - old_size, vma.prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, vma.name) < 0
               ? -ENOMEM
               : static_cast<int64_t>(old);
  }
  if (!(flags & MREMAP_MAYMOVE)) return -ENOMEM;
  uint64_t const to = (flags & MREMAP_FIXED) ? fixed : find_free(new_size, 0);
  if (to == 0) return -ENOMEM;
  if (int64_t const r = place(to, new_size, vma.prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, vma.name); r < 0) return r;
  mark_written(GuestAddr(to), std::min(old_size, new_size));
  std::memcpy(alias_of(to), alias_of(old), std::min(old_size, new_size));
  if (!drop(old, old + old_size)) broken("unmapping what mremap has moved", old, old_size);
  return static_cast<int64_t>(to);
}

int64_t AddressSpace::mremap(GuestAddr old, uint64_t old_size, uint64_t new_size, int flags, GuestAddr fixed) {
  if (old.value % kPageSize != 0 || new_size == 0 || (flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0) return -EINVAL;
  if (old_size > window_ || new_size > window_) return -ENOMEM;
  old_size = page_up(old_size);
  new_size = page_up(new_size);
  if (!in_windows(old.value, old.value + std::max(old_size, kPageSize))) return -EINVAL;
  if (flags & MREMAP_FIXED) {
    bool const overlap = fixed.value < old.value + old_size && old.value < fixed.value + new_size;
    if (!(flags & MREMAP_MAYMOVE) || fixed.value % kPageSize != 0 || overlap) return -EINVAL;
    if (!in_windows(fixed.value, fixed.value + new_size)) return -EINVAL;
  }
  bring_back_missing(old, old_size);  // a page that moves must be right before it is copied
  std::unique_lock lock(mutex_);
  if (locked_area(old.value, old.value + old_size)) return -EPERM;
  if ((flags & MREMAP_FIXED) && locked_area(fixed.value, fixed.value + new_size)) return -EPERM;
  return remap_locked(old.value, old_size, new_size, flags, fixed.value);
}

}  // namespace vmm
