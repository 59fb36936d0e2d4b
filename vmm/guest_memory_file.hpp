// The file that is the guest's memory. Not a memfd if that can be helped: of a memfd the host gives no huge pages
// unless its administrator allowed them for all (shmem_enabled), and the first touch of each 4 KiB page by a guest
// costs an exit into KVM (30 us on PVM, see docs/platform.md). A tmpfs of the monitor's own has them where madvise asks
// for them.
#pragma once

#include <cstdint>

#include "vmm/error.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmm {

inline constexpr uint64_t kHugePage = 2 << 20;
constexpr uint64_t huge_up(uint64_t addr) {
  return (addr + kHugePage - 1) & ~(kHugePage - 1);
}

// `size` bytes that read as zeros and lie in no directory. Where no tmpfs can be had, a memfd: the same, but slower. To
// be called before the monitor has threads (it may fork).
Result<ScopedFd> make_guest_memory_file(uint64_t size);

}  // namespace vmm
