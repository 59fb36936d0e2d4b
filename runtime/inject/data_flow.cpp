#include "runtime/inject/data_flow.hpp"

#include <Zydis/Zydis.h>

namespace vmsrs::runtime::inject {
namespace {

RegisterSet bit_of(ZydisRegister reg) {
  ZydisRegister const whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
  ZyanI8 const id = ZydisRegisterGetId(whole);
  switch (ZydisRegisterGetClass(whole)) {
    case ZYDIS_REGCLASS_GPR64:
      return UINT64_C(1) << id;
    case ZYDIS_REGCLASS_ZMM:
      return UINT64_C(1) << (16 + id);
    case ZYDIS_REGCLASS_FLAGS:
      return UINT64_C(1) << 48;
    default:
      return 0;
  }
}

}  // namespace

DataFlow data_flow(std::span<uint8_t const> bytes) {
  static ZydisDecoder const decoder = [] {
    ZydisDecoder made;
    ZydisDecoderInit(&made, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return made;
  }();
  constexpr unsigned kWholeBits = 32;  // a write of 32 bits clears the upper ones
  DataFlow flow;
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, bytes.data(), bytes.size(), &instruction, operands))) return flow;
  flow.known = true;
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    ZydisDecodedOperand const& op = operands[i];
    if (op.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      flow.read |= bit_of(op.mem.base) | bit_of(op.mem.index);
    } else if (op.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      RegisterSet const bit = bit_of(op.reg.value);
      if ((op.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0) flow.read |= bit;
      if ((op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0)
        (op.size >= kWholeBits ? flow.replaced : flow.merged) |= bit;
    }
  }
  bool const same = instruction.operand_count_visible >= 2 && operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
                    operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER && operands[0].reg.value == operands[1].reg.value;
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_PXOR:
    case ZYDIS_MNEMONIC_XORPS:
    case ZYDIS_MNEMONIC_XORPD:
      flow.clears = same;
      break;
    default:
      break;
  }
  return flow;
}

}  // namespace vmsrs::runtime::inject
