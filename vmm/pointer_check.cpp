// The check of every pointer that the guest passes. A file of its own, so that a test can build a monitor without it
// (tests/faults/unchecked).
#include "vmm/address_space.hpp"

namespace vmm {

bool AddressSpace::in_windows(uint64_t start, uint64_t end) const noexcept {
  if (end < start) return false;
  return (start >= kLowBase && end <= kLowEnd) || (start >= kHighBase + kGap && end <= kHighBase + window_);
}

bool AddressSpace::contains(GuestAddr addr, uint64_t size) const noexcept {
  return in_windows(addr.value, addr.value + size);
}

}  // namespace vmm
