// The code that a system call runs in the guest (vmm/asm/syscall_stub.S), per vCPU.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>

#include "vmm/mailbox_layout.h"

namespace vmm {

// Bit n: system call n may be posted; bit STUB_HYPERCALLS + n: hypercall n may.
using PostableCalls = std::bitset<STUB_CALLS>;

// How far a call had come when its thread left the VM inside the stub.
enum class StubPlace {
  kEntered,    // not posted; r11 still holds the guest's flags
  kNotPosted,  // not posted; r11 is scratch, the flags were ordinary
  kPosted,     // posted; its number is the mailbox's
  kSpinning,   // posted; its number is in r11
  kAnswered    // posted, and the guest saw an answer
};

// Puts a vCPU's two stubs at `to` (MB_STRIDE bytes). `ring0`: the first runs at CPL 0 and goes back by sysret.
void write_stub(std::byte* to, bool ring0, PostableCalls const& calls);
// rip as an offset into the vCPU's stubs.
[[nodiscard]] StubPlace stub_place(uint64_t offset) noexcept;

}  // namespace vmm
