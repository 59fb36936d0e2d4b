// The part of AddressSpace that a checkpoint takes and a restore makes: the map of mappings.
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

#include "vmm/address_space.hpp"
#include "vmm/guest_memory_file.hpp"
#include "vmm/host_mapping.hpp"

namespace vmm {

void AddressSpace::mark_written(GuestAddr addr, uint64_t size) noexcept {
  uint64_t const offset = addr.value < kLowEnd ? addr.value : addr.value - kHighBase;
  if (dirty_.tracking() && offset < 2 * window_) dirty_.mark(offset, size);
}

std::vector<Vma> AddressSpace::file_maps() const {
  std::vector<Vma> found;
  if (!has_file_maps()) return found;
  std::shared_lock lock(mutex_);
  for (auto const& [start, vma] : vmas_) {
    if (vma.may_write) found.push_back(vma);
  }
  return found;
}

void AddressSpace::mark_file_written(FileId const& file, uint64_t offset, uint64_t size) noexcept {
  if (!has_file_maps() || !dirty_.tracking()) return;
  std::shared_lock lock(mutex_);
  for (auto const& [start, vma] : vmas_) {
    if (!vma.may_write || vma.holds != file) continue;
    uint64_t const end = vma.file_offset + (vma.end - vma.start);
    uint64_t const from = std::max(offset, vma.file_offset);
    uint64_t const to = size > end - std::min(end, offset) ? end : offset + size;
    if (from < to) mark_written(vma.start + (from - vma.file_offset), to - from);
  }
}

bool AddressSpace::read_file_map(GuestAddr from, void* to, uint64_t size) const {
  iovec here{to, size}, there{at(from.value), size};
  // The kernel copies: beyond the file's end it answers EFAULT, where a load would end the monitor by SIGBUS.
  return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == static_cast<ssize_t>(size);
}

// Only what differs, so that a file which nobody wrote keeps its times.
Result<void> AddressSpace::write_back(Vma const& vma, int host_fd) const {
  struct stat st {};
  if (fstat(host_fd, &st) != 0) return fail_host(fmt::format("fstat of {}", vma.name));
  auto const length = static_cast<uint64_t>(st.st_size);
  uint64_t const size = vma.file_offset < length ? std::min(vma.end - vma.start, length - vma.file_offset) : 0;
  std::byte const* const wanted = alias_of(vma.start.value);
  std::array<std::byte, kPageSize> there;
  for (uint64_t done = 0; done < size; done += kPageSize) {
    uint64_t const part = std::min(kPageSize, size - done);
    auto const offset = static_cast<off_t>(vma.file_offset + done);
    if (pread(host_fd, there.data(), part, offset) == static_cast<ssize_t>(part) &&
        std::memcmp(there.data(), wanted + done, part) == 0)
      continue;
    if (pwrite(host_fd, wanted + done, part, offset) != static_cast<ssize_t>(part))
      return fail_host(fmt::format("writing {}, which the guest maps", vma.name));
  }
  return {};
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
    FileId id;
    if (vma.backing == Backing::kSharedFile) {
      ScopedFd const file(open_file(vma));
      if (file.get() < 0) return fail_host(fmt::format("opening {}, which the guest maps", vma.name), -file.get());
      if (::mmap(at(start), end - start, host_prot(vma.prot), MAP_SHARED | MAP_FIXED, file.get(),
                 static_cast<off_t>(vma.file_offset)) == MAP_FAILED) {
        return fail_host(fmt::format("mmap of {}", vma.name));
      }
      if (vma.may_write) {
        if (auto written = write_back(vma, file.get()); !written) return written;
        discard(start, end - start);
        has_file_maps_ = true;
      }
      id = file_id(file.get());
    } else {
      if (vma.advised) advise_host(start, end, MADV_HUGEPAGE);
      if (!host_protect(start, end, vma.prot)) return refuse(vma, "mprotect failed");
    }
    Vma mine = vma;
    mine.holds = id;  // the file that a private mapping was made from may be another one here
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
