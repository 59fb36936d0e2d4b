// The guest's vDSO (vmm/vdso/vdso.c): an ELF image of our own, mapped read-only with its time page
// before it, so that reading a clock needs no exit.
#pragma once

#include <memory>
#include <span>

#include "vmm/error.hpp"
#include "vmm/guest_addr.hpp"

namespace vmm {

class AddressSpace;
class TimePage;

struct VdsoImage {
  GuestAddr image;                      // the ELF header: AT_SYSINFO_EHDR
  GuestAddr page;                       // the time page, right before it
  uint64_t size = 0;                    // of the image, whole pages
  std::shared_ptr<TimePage> time_page;  // for Process::time_page: it keeps the page right
};

// The image as linked, not yet anywhere.
[[nodiscard]] std::span<std::byte const> vdso_bytes();

// Maps time page and image: readable and executable, never writable by the guest and not unmapped
// by it. Starts the time page's updater. The address space must outlive the time page.
Result<VdsoImage> load_vdso(AddressSpace& memory);
// For a time page that is in the guest's memory already.
Result<std::shared_ptr<TimePage>> resume_time_page(std::byte* page);

}  // namespace vmm
