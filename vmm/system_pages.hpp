// What ring 3 needs of a kernel, as static data: page tables, GDT, IDT, one TSS and ring-0 stack per vCPU, and the
// entry stubs. Lives in a memslot of its own, outside the guest's windows; ring 3 sees the stubs, read-only, and the
// mailboxes.
//
// Layout of the slot (guest virtual == guest physical == kSystemBase + offset), in pages:
//   0 PML4 | 1 PDPT 0..512 GiB | 2 PDPT 512..1024 GiB | 3 PD of the low window | 4 PD of this slot | 5.. its PTs
//   | GDT | IDT | exception stubs | PDs of the high window and tags | one page per vCPU: TSS at 0, ring-0 stack from
//   the top | one syscall stub per vCPU (vmm/mailbox_layout.h) | one mailbox per vCPU
//
// The tables are never edited after the first vCPU runs: KVM-PVM does not see edits (docs/platform.md). Permissions are
// those of the host mappings. Intel SDM vol. 3: 4.5 (paging), 3.4.5 (descriptors), 6.14 (IDT), 8.7 (TSS).
#pragma once

#include <cstddef>
#include <cstdint>

#include "vmm/error.hpp"
#include "vmm/kvm_abi.hpp"
#include "vmm/mailbox.hpp"

namespace vmm {

inline constexpr uint64_t kSystemBase = 0xC0'0000'0000;  // below 1 TiB of guest-physical space
inline constexpr uint16_t kUserCode = 0x2b, kUserData = 0x23, kKernelCode = 0x08, kKernelData = 0x10;
// Linux's own selectors for 64-bit user code, which signal frames show to the guest.
inline constexpr uint16_t kLinuxUserCode = 0x33, kLinuxUserData = 0x2b;
inline constexpr uint8_t kExitPort = 0xf0;
inline constexpr unsigned kMaxVcpus = MB_MAX_VCPUS;

class SystemPages {
 public:
  // high_base/high_size: the high window with its tags; both multiples of 1 GiB.
  static Result<SystemPages> create(uint64_t low_end, uint64_t high_base, uint64_t high_size);
  SystemPages(SystemPages&& o) noexcept;
  SystemPages& operator=(SystemPages&&) = delete;
  ~SystemPages();

  [[nodiscard]] void* host() const noexcept { return base_; }
  [[nodiscard]] uint64_t size() const noexcept { return size_; }
  // Special registers for ring 3 on vCPU `index`, over what KVM_GET_SREGS gave.
  void fill_sregs(kvm_sregs& sregs, unsigned index) const;
  // What a PML4 other than this one needs in its second entry, so that ring 3 can leave the guest there too.
  [[nodiscard]] uint64_t upper_table() const noexcept;
  // Where a vCPU's syscall enters (MSR_LSTAR): MB_STRIDE bytes, to be filled by write_stub() before it runs.
  [[nodiscard]] uint64_t syscall_stub(unsigned index) const noexcept;
  [[nodiscard]] std::byte* syscall_stub_host(unsigned index) const noexcept;
  [[nodiscard]] Mailbox& mailbox(unsigned index) const noexcept;
  // A syscall instruction in memory that ring 3 can run: to find out at which level the stub is entered.
  [[nodiscard]] uint64_t probe_entry() const noexcept;
  // Vector of the exception stub around rip, -1 if none.
  [[nodiscard]] int exception_stub(uint64_t rip) const noexcept;
  // The ring-0 stack of a vCPU: [low, high) in guest addresses, and its host pointer for a guest address in it.
  [[nodiscard]] bool on_ring0_stack(unsigned index, uint64_t rsp) const noexcept;
  [[nodiscard]] uint64_t const* stack_word(uint64_t rsp) const noexcept;

 private:
  SystemPages() = default;
  std::byte* base_ = nullptr;
  uint64_t size_ = 0;
  unsigned gdt_ = 0, idt_ = 0, stubs_ = 0, vcpus_ = 0, calls_ = 0;  // page numbers
  [[nodiscard]] uint64_t* page(unsigned n) const noexcept;
  [[nodiscard]] static uint64_t address(unsigned n) noexcept;
};

}  // namespace vmm
