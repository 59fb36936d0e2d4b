// What an instruction reads and writes among the registers: enough to follow wrong values through a program.
#pragma once

#include <cstdint>
#include <span>

namespace vmsrs::runtime::inject {

// Bit n: general register n (in the order of their numbers), 16 + n: vector register n (of 32), 48: the flags.
using RegisterSet = uint64_t;
inline constexpr unsigned kFlowRegisters = 49;

struct DataFlow {
  bool known = false;
  RegisterSet read = 0;      // by value, or for an address
  RegisterSet replaced = 0;  // all of it is new
  RegisterSet merged = 0;    // a part of it is
  bool clears = false;       // xor of a register with itself and its like: what is read does not matter
};

[[nodiscard]] DataFlow data_flow(std::span<uint8_t const> bytes);

}  // namespace vmsrs::runtime::inject
