#include "runtime/guest_view.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "vmm/safe_copy.hpp"

namespace vmsrs::runtime {

Mapping const* find_mapping(GuestView const& view, uint64_t addr) {
  auto const& all = view.mappings();
  auto it = std::upper_bound(all.begin(), all.end(), addr, [](uint64_t a, Mapping const& m) { return a < m.end; });
  return it != all.end() && it->start <= addr ? &*it : nullptr;
}

std::vector<Mapping> const& AddressSpaceView::mappings() const {
  if (mappings_.empty()) {
    for (vmm::Vma& vma : space_.vmas()) {
      mappings_.push_back({.start = vma.start.value,
                           .end = vma.end.value,
                           .file = std::move(vma.name),
                           .file_offset = vma.file_offset,
                           .readable = (vma.prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) != 0,
                           .executable = (vma.prot & PROT_EXEC) != 0});
    }
  }
  return mappings_;
}

bool AddressSpaceView::read(uint64_t addr, void* to, size_t size) const {
  vmm::GuestAddr const at(addr);
  if (size == 0) return true;
  if (!space_.contains(at, size)) return false;
  for (uint64_t done = addr; done < addr + size;) {
    // Looked up as it is now, not in the snapshot: what was unmapped since must not be read as zeros.
    vmm::Vma vma;
    if (!space_.find_vma(vmm::GuestAddr(done), vma) || vma.prot == PROT_NONE) return false;
    uint64_t const part = std::min(vma.end.value, addr + size) - done;
    auto* const out = static_cast<std::byte*>(to) + (done - addr);
    if (vma.backing == vmm::Backing::kMemfd) {
      if (vmm::vmm_safe_copy(out, space_.alias(vmm::GuestAddr(done)), part) != 0) return false;
    } else if (!space_.read(vmm::GuestAddr(done), out, part)) {  // a shared file has no alias, and is never away
      return false;
    }
    done += part;
  }
  return true;
}

StackCopy::StackCopy(GuestView const& below, uint64_t sp, size_t size) : below_(below), start_(sp) {
  bytes_.resize(size);
  if (below.read(sp, bytes_.data(), size)) return;
  // The stack ends earlier: page by page.
  size_t done = 0;
  while (done < size) {
    size_t const part = std::min<uint64_t>(size - done, vmm::kPageSize - ((sp + done) & (vmm::kPageSize - 1)));
    if (!below.read(sp + done, bytes_.data() + done, part)) break;
    done += part;
  }
  bytes_.resize(done);
}

bool StackCopy::read(uint64_t addr, void* to, size_t size) const {
  uint64_t const offset = addr - start_;
  if (addr >= start_ && offset < bytes_.size() && size <= bytes_.size() - offset) {
    std::memcpy(to, bytes_.data() + offset, size);
    return true;
  }
  return below_.read(addr, to, size);
}

}  // namespace vmsrs::runtime
