#include "vmm/vdso.hpp"

#include <sys/mman.h>

#include <cstring>

#include "vmm/address_space.hpp"
#include "vmm/time_page.hpp"

extern "C" {
extern std::byte const vmm_vdso_start[], vmm_vdso_end[];
}

namespace vmm {

static_assert(VMSRS_TIME_PAGE_SIZE == kPageSize);

std::span<std::byte const> vdso_bytes() {
  return {vmm_vdso_start, vmm_vdso_end};
}

Result<VdsoImage> load_vdso(AddressSpace& memory) {
  auto const image = vdso_bytes();
  VdsoImage result;
  result.size = page_up(image.size());
  auto const area = memory.map_shared_area(kPageSize + result.size, "[vdso]");
  if (!area) return tl::unexpected<Error>(area.error());
  result.page = *area;
  result.image = *area + kPageSize;
  std::memcpy(memory.alias(result.image), image.data(), image.size());
  memory.set_area_protection(*area, PROT_READ | PROT_EXEC);
  auto page = TimePage::create(memory.alias(result.page));
  if (!page) return tl::unexpected<Error>(page.error());
  result.time_page = std::move(*page);
  return result;
}

}  // namespace vmm
