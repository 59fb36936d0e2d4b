// The guest thread's integer state between exits, in the order of struct kvm_regs, plus the two
// segment bases.
#pragma once

#include <cstdint>

namespace vmm {

struct Registers {
  uint64_t rax = 0, rbx = 0, rcx = 0, rdx = 0;
  uint64_t rsi = 0, rdi = 0, rsp = 0, rbp = 0;
  uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0;
  uint64_t r12 = 0, r13 = 0, r14 = 0, r15 = 0;
  uint64_t rip = 0, rflags = 0x202;
  uint64_t fs_base = 0, gs_base = 0;

  bool operator==(Registers const&) const = default;
};

}  // namespace vmm
