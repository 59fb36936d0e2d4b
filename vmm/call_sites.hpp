// System calls without the syscall instruction. On KVM-PVM `syscall` itself costs a switch to the host's kernel and
// back, tens of microseconds, even where the guest's stub answers (docs/platform.md); on other KVMs it costs 50 ns. So
// a call site that has been used often is patched to jump to the stub.
//
// What is patched: the instruction in front of the syscall, where that is `mov $number, %eax` or `xor %eax, %eax`. It
// becomes a jump to a trampoline that does the same and goes on in the vCPU's direct stub (vmm/mailbox_layout.h). The
// syscall instruction stays as it was, so every address at which a thread can be, or to which a signal frame can
// return, keeps its meaning; unwinders see the addresses that they know. The two bytes of the xor hold a short jump
// only; the long one lies in the padding behind a nearby function.
//
// A trampoline finds the vCPU's stub by the GS base, which Linux programs leave alone; a thread that sets its own takes
// the syscall instruction again. A site is patched only where decoding from many starting points agrees on the
// instruction's boundaries, and in memory that the guest cannot write (no code that is made at run time).
//
// note() is lock-free and thread-safe; patch() is to be called with every other guest thread paused.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "vmm/address_space.hpp"

namespace vmm {

class CallSites {
 public:
  static constexpr unsigned kUsesBeforePatch = 32;
  // stubs: guest address of the first vCPU's stubs. Off where the processor lets ring 3 not read its GS base.
  CallSites(AddressSpace& memory, uint64_t stubs) noexcept;

  // Where ring 3 cannot leave the VM (vmm/kvm_traits.hpp). Before any guest thread runs.
  void turn_off() noexcept { possible_ = false; }
  // A call made by a syscall instruction that ends at `rip`. True once, when it has been used often enough.
  bool note(uint64_t rip) noexcept;
  // Not now: it is counted anew.
  void put_off(uint64_t rip) noexcept;
  // Patches the site if that is safe.
  bool patch(uint64_t rip);

 private:
  struct Use {
    std::atomic<uint64_t> rip{0};
    std::atomic<uint32_t> count{0};
  };
  struct Area {  // of trampolines
    uint64_t start = 0, used = 0;
  };
  uint64_t trampoline(std::span<uint8_t const> moved, uint64_t syscall);
  [[nodiscard]] Use* use_of(uint64_t rip) noexcept;
  std::byte* room(uint64_t near, uint64_t& address);
  [[nodiscard]] uint64_t padding(uint64_t from) const;

  AddressSpace& memory_;
  uint64_t stubs_;
  bool possible_;
  std::array<Use, 1024> uses_{};
  std::vector<Area> areas_;
};

// How many of the instructions in `code` before `boundary` (an offset known to start an instruction) agree that one
// starts at `at`: decoding begins at each of the bytes in front, and falls into step with the real boundaries soon.
// Exposed for its test.
bool starts_instruction(std::span<uint8_t const> code, size_t at, size_t boundary);

}  // namespace vmm
