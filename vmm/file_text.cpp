// The part of AddressSpace that puts the read-only part of a program or library on huge pages, and leaves its bytes
// where they are when the loader maps its segments over the whole of it.
//
// A guest's first touch of a page that the host may not write costs an exit into KVM each (docs/platform.md); a loader
// that looks up symbols touches hundreds in every large library.
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>

#include "vmm/address_space.hpp"
#include "vmm/guest_memory_file.hpp"
#include "vmm/host_mapping.hpp"

namespace vmm {
namespace {

// What may be wasted so that the last huge page of a text is one.
constexpr uint64_t kMostPadding = 512 << 10;
constexpr char const* kPadding = "[padding]";

}  // namespace

// Readable zeros before the text, so that it fills whole huge pages up to its end; 0: it would take too much of them.
uint64_t AddressSpace::text_padding(uint64_t text) {
  uint64_t const lead = huge_up(text) - text;
  return lead <= kMostPadding ? lead : 0;
}

bool AddressSpace::wants_huge_text(uint64_t text) {
  return text + text_padding(text) >= kHugePage;
}

// Where padding and file go, so that the text ends with a huge page; 0: nowhere.
uint64_t AddressSpace::place_for_text(uint64_t hint, uint64_t size, uint64_t text) const {
  uint64_t const ends = text_padding(text) + text, whole = text_padding(text) + size;
  if (hint != 0) {
    uint64_t const start = huge_up(hint + ends) - ends;
    if (in_windows(start, start + whole) && is_free(start, start + whole)) return start;
  }
  uint64_t const room = free_high_.find(whole + kHugePage);
  if (room == 0) return 0;
  uint64_t const last = room + kHugePage;  // the highest start there
  return last - (last + ends) % kHugePage;
}

int64_t AddressSpace::map_text(uint64_t hint, uint64_t size, int prot, int flags, int host_fd, std::string name,
                               uint64_t text) {
  uint64_t const start = place_for_text(hint, size, text), padding = text_padding(text);
  if (start == 0) return place(find_free(size, flags), size, prot, flags, host_fd, 0, std::move(name));
  uint64_t const from = huge_up(start), to = start + padding + text, file = start + padding;
  // Before there is anything in them: a page that the host has given is not made part of a huge one.
  advise_host(from, to, MADV_HUGEPAGE);
  if (::mprotect(at(from), to - from, PROT_READ | PROT_WRITE) != 0) return -ENOMEM;
  populate({GuestAddr(from), to - from});
  if (padding != 0) {
    vmas_.emplace(start, Vma{GuestAddr(start), GuestAddr(file), PROT_READ, Backing::kMemfd, kPadding, 0, false, {}});
    free_around(start).remove(start, file);
  }
  int64_t const placed = place(file, size, prot, flags, host_fd, 0, std::move(name));
  if (placed < 0 || !host_protect(from, to, PROT_READ)) {
    // The advice goes with the mapping, which drop() renews where it knows of it.
    if (::mmap(at(from), to - from, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, memfd(),
               alias_of(from) - alias_) == MAP_FAILED) {
      broken("taking back a mapping", from, to - from);
    }
    if (!drop(start, file + size)) broken("taking back a mapping", start, size);
    return placed < 0 ? placed : -ENOMEM;
  }
  split_at(from);
  split_at(to);
  for (auto it = vmas_.lower_bound(from); it != vmas_.end() && it->first < to; ++it) it->second.advised = true;
  return placed;
}

// The padding that goes with the file at `start`, when that is unmapped.
uint64_t AddressSpace::padding_before(uint64_t start) const {
  auto const it = vmas_.lower_bound(start);
  if (it == vmas_.begin()) return 0;
  Vma const& vma = std::prev(it)->second;
  return vma.end.value == start && vma.name == kPadding ? vma.end - vma.start : 0;
}

// Whether [start, start + size) already holds these bytes of the file, never written since they were mapped.
bool AddressSpace::holds_file(uint64_t start, uint64_t size, FileId const& file, uint64_t offset) const {
  if (file == FileId{} || away_count() != 0) return false;
  uint64_t const end = start + size;
  auto it = vmas_.upper_bound(start);
  if (it == vmas_.begin()) return false;
  for (--it; it != vmas_.end() && it->first <= start; ++it) {
    Vma const& vma = it->second;
    if (vma.end.value <= start || vma.holds != file || vma.file_offset + (start - vma.start.value) != offset) {
      return false;
    }
    if (vma.end.value >= end) return true;
    offset += vma.end.value - start;
    start = vma.end.value;
  }
  return false;
}

FileId AddressSpace::file_id(int host_fd) {
  struct stat st {};
  if (host_fd < 0 || fstat(host_fd, &st) != 0 || !S_ISREG(st.st_mode)) return {};
  return {st.st_dev, st.st_ino};
}

}  // namespace vmm
