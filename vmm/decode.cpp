#include "vmm/decode.hpp"

#include <Zydis/Zydis.h>

namespace vmm {
namespace {

ZydisDecoder const& decoder() {
  static ZydisDecoder const d = [] {
    ZydisDecoder made;
    ZydisDecoderInit(&made, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return made;
  }();
  return d;
}

// Register values as Zydis numbers them.
ZydisRegisterContext context_of(Registers const& r) {
  ZydisRegisterContext c{};
  uint64_t const values[] = {r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi,
                             r.r8,  r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15};
  for (unsigned i = 0; i < 16; ++i) c.values[ZYDIS_REGISTER_RAX + i] = values[i];
  for (unsigned i = 0; i < 16; ++i) c.values[ZYDIS_REGISTER_EAX + i] = static_cast<uint32_t>(values[i]);
  c.values[ZYDIS_REGISTER_RIP] = r.rip;
  c.values[ZYDIS_REGISTER_RFLAGS] = r.rflags;
  return c;
}

}  // namespace

DecodedInstruction decode(std::span<uint8_t const> bytes, Registers const& regs) {
  DecodedInstruction result;
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder(), bytes.data(), bytes.size(), &instruction, operands)))
    return result;
  result.length = instruction.length;
  ZydisRegisterContext const context = context_of(regs);
  for (unsigned i = 0; i < instruction.operand_count && result.count < result.accesses.size(); ++i) {
    ZydisDecodedOperand const& op = operands[i];
    if (op.type != ZYDIS_OPERAND_TYPE_MEMORY || op.mem.type == ZYDIS_MEMOP_TYPE_AGEN) continue;
    ZyanU64 address = 0;
    if (ZYAN_FAILED(ZydisCalcAbsoluteAddressEx(&instruction, &op, regs.rip, &context, &address))) continue;
    MemoryAccess access;
    access.size = op.size / 8;
    access.read = (op.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
    access.write = (op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    if (op.mem.segment == ZYDIS_REGISTER_FS) address += regs.fs_base;
    if (op.mem.segment == ZYDIS_REGISTER_GS) address += regs.gs_base;
    // push and call write below the RSP that the hidden operand names.
    if (op.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && access.write && op.mem.base == ZYDIS_REGISTER_RSP) {
      address = regs.rsp - access.size;
    }
    access.address = GuestAddr(address);
    result.accesses[result.count++] = access;
  }
  return result;
}

std::string disassemble(std::span<uint8_t const> bytes, uint64_t ip) {
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder(), bytes.data(), bytes.size(), &instruction, operands))) {
    return "(not an instruction)";
  }
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  char text[128];
  ZydisFormatterFormatInstruction(&formatter, &instruction, operands, instruction.operand_count_visible, text,
                                  sizeof text, ip, nullptr);
  return text;
}

}  // namespace vmm
