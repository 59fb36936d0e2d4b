// Past an instruction that cannot be carried out: as if it had been, with loads of 0 and stores into nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/registers.hpp"

namespace vmm {

struct SteppedOver {
  uint16_t vectors = 0;    // bit n: the instruction would have written XMM/YMM n; it is for the caller to clear them
  bool as_return = false;  // it would have left for an address that is not known: the caller returns from the function
};

// Sets `regs` behind the instruction at regs.rip, whose bytes are given. General registers that it would have written
// are 0 (a part of a register: that part); push and pop move RSP; a call has returned 0; a compare-and-swap has stored.
// Nothing, and `regs` as they were: what follows such an instruction is not known (ret, iret, leave, syscall, or bytes
// that are none).
std::optional<SteppedOver> step_over(std::span<uint8_t const> bytes, Registers& regs);

// The first 16 vector registers of an XSAVE area in standard format (Intel SDM vol. 1, 13.4), where `vectors` says so.
void clear_vectors(std::span<std::byte> xsave, uint16_t vectors);

}  // namespace vmm
