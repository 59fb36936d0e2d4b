#include "vmm/vdso.hpp"

#include <sys/mman.h>
#include <unistd.h>

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

namespace {

// KVM-PVM runs ring 3 with the host's own IA32_TSC_AUX, which holds the CPU's number; hardware KVMs give the guest one
// of its own (docs/platform.md).
bool guest_sees_host_aux() {
  return access("/sys/module/kvm_pvm", F_OK) == 0 && access("/sys/module/kvm_intel", F_OK) != 0 &&
         access("/sys/module/kvm_amd", F_OK) != 0;
}

}  // namespace

Result<std::shared_ptr<TimePage>> resume_time_page(std::byte* page) {
  auto made = TimePage::create(page);
  if (made && guest_sees_host_aux()) (*made)->set_cpu_from_aux(true);
  return made;
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
  auto page = resume_time_page(memory.alias(result.page));
  if (!page) return tl::unexpected<Error>(page.error());
  result.time_page = std::move(*page);
  return result;
}

}  // namespace vmm
