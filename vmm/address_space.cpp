#include "vmm/address_space.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "vmm/guest_memory_file.hpp"
#include "vmm/host_mapping.hpp"
#include "vmm/safe_copy.hpp"

namespace vmm {
namespace {

int need_of(Access access) {
  return access == Access::kWrite ? PROT_WRITE : PROT_READ;
}

bool allows(int prot, int need) {
  return need == PROT_WRITE ? (prot & PROT_WRITE) != 0 : (prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) != 0;
}

// Asked of place(): huge pages, as few first touches as may be. The guest's own MAP_HUGETLB never gets there.
constexpr int kHuge = MAP_HUGETLB;

// Writable memory asked for in so small a piece is about to be used: given its pages at once, the guest's first touches
// take one exit into KVM for eight pages, not one for each (docs/platform.md).
constexpr uint64_t kAhead = 1 << 20;

bool wants_pages(uint64_t size, int prot, int flags) {
  return size <= kAhead && (prot & PROT_WRITE) && !(flags & (MAP_NORESERVE | MAP_STACK | MAP_GROWSDOWN));
}

// Large memory that will be written, but for stacks, of which little is used.
bool wants_huge(uint64_t size, int prot, int flags, bool file) {
  return !file && size >= kHugePage && (prot & PROT_WRITE) && !(flags & (MAP_STACK | MAP_GROWSDOWN));
}

}  // namespace

Result<std::unique_ptr<AddressSpace>> AddressSpace::create(Config const& config) {
  uint64_t const w = config.window;
  if (w < (2ULL << 30) || w > (64ULL << 30) || (w & (w - 1)) != 0) {
    return fail(Errc::kBadOption,
                fmt::format("guest memory of {} MiB: must be a power of two from 2 to 64 GiB", w >> 20));
  }
  std::unique_ptr<AddressSpace> space(new AddressSpace);
  space->window_ = w;
  if (config.file >= 0) {
    space->memfd_ = ScopedFd(config.file);
  } else {
    auto file = make_guest_memory_file(2 * w);
    if (!file) return tl::unexpected(file.error());
    space->memfd_ = std::move(*file);
  }
  if (auto r = space->dirty_.create(2 * w); !r) return tl::unexpected(r.error());
  void* alias = ::mmap(nullptr, 2 * w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, space->memfd(), 0);
  if (alias == MAP_FAILED) return fail_host("mmap of the guest memory's alias");
  space->alias_ = static_cast<std::byte*>(alias);
  for (auto const& piece : space->pieces()) {
    bool const tags = piece.guest_base.value == space->tag_base();
    void* got = ::mmap(at(piece.guest_base.value), piece.size, tags ? PROT_READ | PROT_WRITE : PROT_NONE,
                       MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, space->memfd(),
                       static_cast<off_t>(piece.memfd_offset));
    if (got == MAP_FAILED) {
      return fail_host(
          fmt::format("mmap of the guest's window at {:#x} ({} MiB)", piece.guest_base.value, piece.size >> 20));
    }
  }
  space->free_low_.add(kLowBase, kLowEnd);
  space->free_high_.add(kHighBase + kGap, kHighBase + w);
  return space;
}

AddressSpace::~AddressSpace() {
  if (alias_ != nullptr) {
    ::munmap(alias_, 2 * window_);
    for (auto const& piece : pieces()) ::munmap(at(piece.guest_base.value), piece.size);
  }
}

std::vector<AddressSpace::Piece> AddressSpace::pieces() const {
  return {{GuestAddr(kLowBase), kLowEnd - kLowBase, kLowBase},
          {GuestAddr(kHighBase + kGap), window_ - kGap, kGap},
          {GuestAddr(tag_base()), window_, window_}};
}

std::byte* AddressSpace::alias_of(uint64_t addr) const noexcept {
  return alias_ + (addr < kLowEnd ? addr : addr - kHighBase);
}

std::byte* AddressSpace::alias(GuestAddr addr) const noexcept {
  bool const tags = addr.value >= tag_base() && addr.value < tag_base() + window_;
  return tags || in_windows(addr.value, addr.value + 1) ? alias_of(addr.value) : nullptr;
}

bool AddressSpace::covered(uint64_t start, uint64_t end, int need, Backing const* backing) const {
  auto it = vmas_.upper_bound(start);
  if (it == vmas_.begin()) return false;
  for (--it; it != vmas_.end(); ++it) {
    Vma const& vma = it->second;
    if (vma.start.value > start || vma.end.value <= start) return false;
    if (!allows(vma.prot, need) || (backing != nullptr && vma.backing != *backing)) return false;
    start = vma.end.value;
    if (start >= end) return true;
  }
  return false;
}

void* AddressSpace::buffer(GuestAddr addr, uint64_t size, Access access) {
  if (!contains(addr, size)) return nullptr;
  bring_back_missing(addr, size);
  if (size == 0) return at(addr.value);
  if (access == Access::kWrite) mark_written(addr, size);
  std::shared_lock lock(mutex_);
  Backing const memfd = Backing::kMemfd;
  if (covered(addr.value, addr.value + size, need_of(access), &memfd)) return alias_of(addr.value);
  return at(addr.value);
}

void AddressSpace::bring_back_missing(GuestAddr addr, uint64_t size) {
  if (away_count() == 0 || size == 0) return;
  {
    std::shared_lock lock(mutex_);
    auto it = away_.upper_bound(page_up(addr.value + size) - 1);
    if (it == away_.begin() || std::prev(it)->second <= page_down(addr.value)) return;
  }
  if (on_missing_) on_missing_({addr, size});
}

bool AddressSpace::read(GuestAddr from, void* to, uint64_t size) {
  if (!contains(from, size)) return false;
  bring_back_missing(from, size);
  return vmm_safe_copy(to, at(from.value), size) == 0;
}

bool AddressSpace::write(GuestAddr to, void const* from, uint64_t size) {
  if (!contains(to, size)) return false;
  bring_back_missing(to, size);
  mark_written(to, size);
  return vmm_safe_copy(at(to.value), from, size) == 0;
}

int AddressSpace::read_string(GuestAddr from, std::string& to, uint64_t max) {
  to.clear();
  char chunk[256];
  while (to.size() < max) {
    uint64_t const here = from.value + to.size();
    uint64_t const size = std::min({sizeof chunk, max - to.size(), kPageSize - here % kPageSize});
    if (!read(GuestAddr(here), chunk, size)) return EFAULT;
    if (void const* end = std::memchr(chunk, 0, size)) {
      to.append(chunk, static_cast<uint64_t>(static_cast<char const*>(end) - chunk));
      return 0;
    }
    to.append(chunk, size);
  }
  return ENAMETOOLONG;
}

// ---- VMA book-keeping (mutex_ held exclusively) ----

void AddressSpace::split_at(uint64_t where) {
  auto it = vmas_.lower_bound(where);
  if (it == vmas_.begin()) return;
  --it;
  Vma& vma = it->second;
  if (vma.end.value <= where) return;
  Vma upper = vma;
  upper.start = GuestAddr(where);
  upper.file_offset += where - vma.start.value;
  vma.end = GuestAddr(where);
  vmas_.emplace(where, std::move(upper));
}

// Joins neighbours in [start, end] that differ in nothing, so that a heap grown by many small calls stays one VMA.
void AddressSpace::merge(uint64_t start, uint64_t end) {
  auto it = vmas_.lower_bound(start);
  if (it != vmas_.begin()) --it;
  while (it != vmas_.end() && it->first <= end) {
    auto next = std::next(it);
    if (next == vmas_.end()) return;
    Vma &a = it->second, &b = next->second;
    bool const files = !a.name.empty() && a.name[0] == '/';
    if (a.end == b.start && a.prot == b.prot && a.backing == Backing::kMemfd && b.backing == Backing::kMemfd &&
        a.name == b.name && a.advised == b.advised && a.holds == b.holds &&
        (!files || b.file_offset == a.file_offset + (b.start - a.start))) {
      a.end = b.end;
      vmas_.erase(next);
    } else {
      it = next;
    }
  }
}

bool AddressSpace::is_free(uint64_t start, uint64_t end) const {
  auto it = vmas_.lower_bound(end);
  return it == vmas_.begin() || std::prev(it)->second.end.value <= start;
}

bool AddressSpace::locked_area(uint64_t start, uint64_t end) const noexcept {
  return std::ranges::any_of(locked_,
                             [&](GuestRange const& r) { return start < r.end().value && r.start.value < end; });
}

FreeRanges& AddressSpace::free_around(uint64_t addr) {
  return addr < kLowEnd ? free_low_ : free_high_;
}

// The low window is the room of last resort, from its top down: a position-dependent program's brk grows from its
// bottom.
uint64_t AddressSpace::find_free(uint64_t size, int flags) const {
  uint64_t high = 0;
  if ((flags & kHuge) && !(flags & MAP_32BIT)) high = free_high_.find(size, kHugePage);
  if (high == 0 && !(flags & MAP_32BIT)) high = free_high_.find(size);
  return high != 0 ? high : free_low_.find(size);
}

bool AddressSpace::host_protect(uint64_t start, uint64_t end, int prot) {
  // Pages away stay away; what they will be allowed later is the VMA's business.
  uint64_t from = start;
  auto it = away_.upper_bound(start);
  if (it != away_.begin()) --it;
  for (; it != away_.end() && it->first < end; ++it) {
    if (it->second <= from) continue;
    if (it->first > from && ::mprotect(at(from), it->first - from, host_prot(prot)) != 0) return false;
    from = it->second;
  }
  return from >= end || ::mprotect(at(from), end - from, host_prot(prot)) == 0;
}

void AddressSpace::protect_as_mapped(uint64_t start, uint64_t end) {
  auto it = vmas_.upper_bound(start);
  if (it != vmas_.begin()) --it;
  for (; it != vmas_.end() && it->first < end; ++it) {
    uint64_t const from = std::max(start, it->first), to = std::min(end, it->second.end.value);
    if (from < to && !host_protect(from, to, it->second.prot))
      broken("giving pages back to the guest", from, to - from);
  }
}

void AddressSpace::discard(uint64_t start, uint64_t size) {
  mark_written(GuestAddr(start), size);
  std::byte* const pages = alias_of(start);
  if (fallocate(memfd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pages - alias_, static_cast<off_t>(size)) != 0) {
    std::memset(pages, 0, size);  // whoever gets them next reads zeros
  }
}

void AddressSpace::advise_host(uint64_t start, uint64_t end, int advice) {
  // A host without huge pages says EINVAL: nothing is lost but time.
  if (::madvise(at(start), end - start, advice) != 0 && errno != EINVAL) broken("madvise", start, end - start);
  // The monitor may be the first to touch a page, with a file's bytes. There the advice stays when the guest unmaps.
  ::madvise(alias_of(start), end - start, advice);
}

void AddressSpace::populate(GuestRange range) {
  if (range.size != 0) ::madvise(at(range.start.value), range.size, MADV_POPULATE_WRITE);
}

// Frees whatever is mapped in [start, end): back to the memfd's own mapping, no access, pages given back.
bool AddressSpace::drop(uint64_t start, uint64_t end) {
  split_at(start);
  split_at(end);
  for (auto it = vmas_.lower_bound(start); it != vmas_.end() && it->first < end; it = vmas_.erase(it)) {
    Vma const& vma = it->second;
    uint64_t const size = vma.end - vma.start;
    if (vma.backing == Backing::kSharedFile || vma.advised) {
      if (::mmap(at(vma.start.value), size, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, memfd(),
                 alias_of(vma.start.value) - alias_) == MAP_FAILED) {
        return false;
      }
      if (vma.backing == Backing::kMemfd) discard(vma.start.value, size);
    } else {
      if (::mprotect(at(vma.start.value), size, PROT_NONE) != 0) {
        protect_as_mapped(vma.start.value, vma.end.value);
        return false;
      }
      discard(vma.start.value, size);
    }
    free_around(vma.start.value).add(vma.start.value, vma.end.value);
  }
  for (auto it = away_.begin(); it != away_.end();) {  // what is unmapped is no longer away
    auto [s, e] = *it;
    if (e <= start || s >= end) {
      ++it;
      continue;
    }
    it = away_.erase(it);
    if (s < start) away_[s] = start;
    if (e > end) it = away_.emplace(end, e).first;
    away_count_ -= (std::min(e, end) - std::max(s, start)) / kPageSize;
  }
  return true;
}

int64_t AddressSpace::place(uint64_t start, uint64_t size, int prot, int flags, int host_fd, uint64_t offset,
                            std::string name) {
  bool const shared_file = host_fd >= 0 && (flags & MAP_SHARED);
  Vma vma{GuestAddr(start),
          GuestAddr(start + size),
          prot,
          shared_file ? Backing::kSharedFile : Backing::kMemfd,
          std::move(name),
          offset,
          false,
          {}};
  if (shared_file) {
    // Whether the file may be mapped so is the host kernel's to say, before anything of the guest's is dropped.
    void* probe = ::mmap(nullptr, size, host_prot(prot), MAP_SHARED, host_fd, static_cast<off_t>(offset));
    if (probe == MAP_FAILED) return -errno;
    ::munmap(probe, size);
    if (!drop(start, start + size)) return -ENOMEM;
    if (::mmap(at(start), size, host_prot(prot), MAP_SHARED | MAP_FIXED, host_fd, static_cast<off_t>(offset)) ==
        MAP_FAILED) {
      return -errno;
    }
    vma.may_write = (fcntl(host_fd, F_GETFL) & O_ACCMODE) == O_RDWR;
    vma.holds = file_id(host_fd);
    if (vma.may_write) has_file_maps_ = true;
  } else {
    FileId const file = (prot & PROT_WRITE) ? FileId{} : file_id(host_fd);
    if (holds_file(start, size, file, offset)) {
      int64_t const changed = change_protection(start, start + size, prot);
      return changed < 0 ? changed : static_cast<int64_t>(start);
    }
    vma.holds = file;
    if (!drop(start, start + size)) return -ENOMEM;
    if (host_fd >= 0) mark_written(GuestAddr(start), size);
    for (uint64_t done = 0; host_fd >= 0 && done < size;) {
      ssize_t const n = pread(host_fd, alias_of(start) + done, size - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return -errno;
      if (n == 0) break;  // the rest of the last page, and pages past the end of the file, read as zeros
      done += static_cast<uint64_t>(n);
    }
    if (!host_protect(start, start + size, prot)) {
      if (::mprotect(at(start), size, PROT_NONE) != 0) broken("taking back a mapping", start, size);
      discard(start, size);
      return -ENOMEM;
    }
    if (wants_pages(size, prot, flags)) populate({GuestAddr(start), size});
  }
  if (flags & kHuge) {
    vma.advised = true;
    advise_host(start, start + size, MADV_HUGEPAGE);
    // What is before the first huge page and after the last.
    uint64_t const end = start + size, first = std::min(end, huge_up(start));
    populate({GuestAddr(start), first - start});
    if (uint64_t const last = end & ~(kHugePage - 1); last >= first) populate({GuestAddr(last), end - last});
  }
  vmas_.emplace(start, std::move(vma));
  free_around(start).remove(start, start + size);
  merge(start, start + size);
  return static_cast<int64_t>(start);
}

// ---- the guest's calls ----

int64_t AddressSpace::mmap(GuestAddr hint, uint64_t size, int prot, int flags, int host_fd, uint64_t offset,
                           std::string name, uint64_t text) {
  if (size == 0 || offset % kPageSize != 0) return -EINVAL;
  if (size > window_) return -ENOMEM;
  size = page_up(size);
  int const type = flags & 0xf;
  if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE) return -EINVAL;
  if (flags & MAP_HUGETLB) return -ENOMEM;
  if (type == MAP_SHARED_VALIDATE) flags = (flags & ~0xf) | MAP_SHARED;
  if (wants_huge(size, prot, flags, host_fd >= 0)) flags |= kHuge;
  std::unique_lock lock(mutex_);
  uint64_t start = hint.value;
  if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
    if (start % kPageSize != 0) return -EINVAL;
    if (!in_windows(start, start + size)) return -ENOMEM;
    if (locked_area(start, start + size)) return -EPERM;
    if ((flags & MAP_FIXED_NOREPLACE) && !is_free(start, start + size)) return -EEXIST;
  } else {
    start = page_down(start);
    bool const whole =
        type == MAP_PRIVATE && host_fd >= 0 && offset == 0 && !(prot & PROT_WRITE) && !(flags & MAP_32BIT);
    if (whole && text <= size && wants_huge_text(text)) {
      return map_text(start, size, prot, flags, host_fd, std::move(name), text);
    }
    if (start == 0 || !in_windows(start, start + size) || !is_free(start, start + size)) start = find_free(size, flags);
    if (start == 0) return -ENOMEM;
  }
  return place(start, size, prot, flags, host_fd, offset, std::move(name));
}

int64_t AddressSpace::munmap(GuestAddr addr, uint64_t size) {
  if (addr.value % kPageSize != 0 || size == 0 || size > window_) return -EINVAL;
  size = page_up(size);
  if (!in_windows(addr.value, addr.value + size)) return -EINVAL;
  std::unique_lock lock(mutex_);
  if (locked_area(addr.value, addr.value + size)) return -EPERM;
  return drop(addr.value - padding_before(addr.value), addr.value + size) ? 0 : -ENOMEM;
}

int64_t AddressSpace::mprotect(GuestAddr addr, uint64_t size, int prot) {
  if (addr.value % kPageSize != 0) return -EINVAL;
  if (size == 0) return 0;
  size = page_up(size);
  if (size > window_ || !in_windows(addr.value, addr.value + size)) return -ENOMEM;
  std::unique_lock lock(mutex_);
  uint64_t const start = addr.value, end = start + size;
  if (locked_area(start, end)) return -EPERM;
  for (uint64_t here = start; here < end;) {
    auto it = vmas_.upper_bound(here);
    if (it == vmas_.begin() || std::prev(it)->second.end.value <= here) return -ENOMEM;
    here = std::prev(it)->second.end.value;
  }
  return change_protection(start, end, prot);
}

// Of [start, end), all of it mapped.
int64_t AddressSpace::change_protection(uint64_t start, uint64_t end, int prot) {
  split_at(start);
  split_at(end);
  for (auto it = vmas_.lower_bound(start); it != vmas_.end() && it->first < end; ++it) {
    Vma& vma = it->second;
    if (vma.backing == Backing::kSharedFile) {
      if (::mprotect(at(it->first), vma.end - vma.start, host_prot(prot)) != 0) return -errno;
    } else if (!host_protect(it->first, vma.end.value, prot)) {
      protect_as_mapped(it->first, vma.end.value);  // as Linux: what came before it stays changed
      return -ENOMEM;
    }
    bool const now_writable = vma.backing == Backing::kMemfd && (prot & ~vma.prot & PROT_WRITE) != 0;
    vma.prot = prot;
    if (!now_writable) continue;
    vma.holds = {};
    if (wants_pages(end - start, prot, 0)) populate({vma.start, vma.end - vma.start});
  }
  merge(start, end);
  return 0;
}

int64_t AddressSpace::madvise(GuestAddr addr, uint64_t size, int advice) {
  if (addr.value % kPageSize != 0 || size > window_) return -EINVAL;
  size = page_up(size);
  if (!in_windows(addr.value, addr.value + size)) return -ENOMEM;
  bool const huge = advice == MADV_HUGEPAGE || advice == MADV_NOHUGEPAGE;
  if (!huge && advice != MADV_DONTNEED && advice != MADV_REMOVE) return 0;  // the others are hints
  std::unique_lock lock(mutex_);
  if (locked_area(addr.value, addr.value + size)) return -EPERM;
  if (huge) {
    split_at(addr.value);
    split_at(addr.value + size);
  }
  auto it = vmas_.upper_bound(addr.value);
  if (it != vmas_.begin()) --it;
  for (; it != vmas_.end() && it->first < addr.value + size; ++it) {
    Vma& vma = it->second;
    uint64_t const from = std::max(it->first, addr.value), to = std::min(vma.end.value, addr.value + size);
    if (from >= to || vma.backing != Backing::kMemfd) continue;
    if (huge) {
      vma.advised = true;
      advise_host(from, to, advice);
    } else {
      discard(from, to - from);
      vma.holds = {};
    }
  }
  return 0;
}

void AddressSpace::set_brk_start(GuestAddr addr) {
  std::unique_lock lock(mutex_);
  brk_start_ = brk_ = page_up(addr.value);
}

int64_t AddressSpace::brk(GuestAddr addr) {
  std::unique_lock lock(mutex_);
  auto const now = static_cast<int64_t>(brk_);
  if (addr.value < brk_start_ || addr.value > brk_start_ + window_) return now;
  uint64_t const old_end = page_up(brk_), new_end = page_up(addr.value);
  if (new_end > old_end) {
    if (!in_windows(old_end, new_end) || !is_free(old_end, new_end)) return now;
    if (place(old_end, new_end - old_end, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "[heap]") < 0) {
      return now;
    }
  } else if (new_end < old_end && !drop(new_end, old_end)) {
    return now;
  }
  brk_ = addr.value;
  return static_cast<int64_t>(brk_);
}

std::vector<Vma> AddressSpace::vmas() const {
  std::shared_lock lock(mutex_);
  std::vector<Vma> all;
  all.reserve(vmas_.size());
  for (auto const& [start, vma] : vmas_) all.push_back(vma);
  return all;
}

uint64_t AddressSpace::mapped_bytes() const {
  std::shared_lock lock(mutex_);
  uint64_t sum = 0;
  for (auto const& [start, vma] : vmas_) sum += vma.end - vma.start;
  return sum;
}

bool AddressSpace::find_vma(GuestAddr addr, Vma& out) const {
  std::shared_lock lock(mutex_);
  auto it = vmas_.upper_bound(addr.value);
  if (it == vmas_.begin() || std::prev(it)->second.end.value <= addr.value) return false;
  out = std::prev(it)->second;
  return true;
}

}  // namespace vmm
