// Memory that the monitor puts into the guest's windows for its own use: structures shared with libsrs, the vDSO, the
// trampolines of direct call sites.
#include <fmt/format.h>
#include <sys/mman.h>

#include <mutex>

#include "vmm/address_space.hpp"

namespace vmm {

// The first gap that is large enough behind the mapping around `near`, else in front of it; 0: none within reach.
uint64_t AddressSpace::find_free_near(uint64_t size, uint64_t near) const {
  constexpr uint64_t kReach = (2ULL << 30) - (16 << 20);
  auto const fits = [&](uint64_t start) {
    uint64_t const apart = start < near ? near - start : start + size - near;
    return apart < kReach && in_windows(start, start + size) && is_free(start, start + size);
  };
  auto const around = vmas_.upper_bound(near);
  for (auto it = around == vmas_.begin() ? around : std::prev(around); it != vmas_.end(); ++it) {
    if (it->second.end.value - near >= kReach) break;
    if (fits(it->second.end.value)) return it->second.end.value;
  }
  for (auto it = around; it != vmas_.begin();) {
    --it;
    uint64_t const start = it->first - size;
    if (it->first < near && near - it->first >= kReach) break;
    if (it->first >= size && fits(start)) return start;
  }
  return 0;
}

Result<GuestAddr> AddressSpace::map_shared_area(uint64_t size, std::string name, GuestAddr near) {
  std::unique_lock lock(mutex_);
  size = page_up(size);
  uint64_t const start = near ? find_free_near(size, near.value) : find_free(size, 0);
  if (start == 0)
    return fail(Errc::kRegionExhausted, fmt::format("no {} KiB of guest memory left for {}", size >> 10, name));
  if (int64_t const r = place(start, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, name); r < 0) {
    return fail_host(fmt::format("mapping {}", name), static_cast<int>(-r));
  }
  locked_.push_back({GuestAddr(start), size});
  return GuestAddr(start);
}

void AddressSpace::set_area_protection(GuestAddr start, int prot) {
  std::unique_lock lock(mutex_);
  auto it = vmas_.find(start.value);
  if (it == vmas_.end()) return;
  it->second.prot = prot;
  protect_as_mapped(start.value, it->second.end.value);
}

}  // namespace vmm
