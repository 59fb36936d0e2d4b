// What memory an instruction was about to touch: Zydis over guest bytes and registers.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "vmm/guest_addr.hpp"
#include "vmm/registers.hpp"

namespace vmm {

struct MemoryAccess {
  GuestAddr address;
  uint32_t size = 0;  // bytes
  bool read = false, write = false;
};

struct DecodedInstruction {
  unsigned length = 0;  // 0: not decodable
  std::array<MemoryAccess, 4> accesses{};
  unsigned count = 0;
};

inline constexpr unsigned kMaxInstruction = 15;

DecodedInstruction decode(std::span<uint8_t const> bytes, Registers const& regs);
// One line of assembly in Intel syntax, for reports.
std::string disassemble(std::span<uint8_t const> bytes, uint64_t ip);

}  // namespace vmm
