#include "vmm/step_over.hpp"

#include <Zydis/Zydis.h>

#include <cstddef>
#include <cstring>

namespace vmm {
namespace {

constexpr uint64_t kZeroFlag = 1 << 6;
constexpr size_t kXmmOffset = 160, kAvxOffset = 576;  // of the area's components 1 and 2

// Zydis numbers registers as instructions encode them; Registers has them in KVM's order.
uint64_t* register_of(Registers& r, unsigned id) {
  uint64_t* const all[] = {&r.rax, &r.rcx, &r.rdx, &r.rbx, &r.rsp, &r.rbp, &r.rsi, &r.rdi,
                           &r.r8,  &r.r9,  &r.r10, &r.r11, &r.r12, &r.r13, &r.r14, &r.r15};
  return id < 16 ? all[id] : nullptr;
}

// Its number among registers of its kind; 255: it has none.
unsigned number_of(ZydisRegister reg) {
  return static_cast<uint8_t>(ZydisRegisterGetId(reg));
}

void clear(Registers& regs, ZydisRegister reg) {
  ZydisRegisterClass const kind = ZydisRegisterGetClass(reg);
  bool const high = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
  unsigned id = number_of(reg);
  if (kind == ZYDIS_REGCLASS_GPR8) {
    // The enumeration has AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B…
    ZydisRegister const whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    id = number_of(whole);
  }
  uint64_t* const value = register_of(regs, id);
  if (value == nullptr || value == &regs.rsp) return;
  switch (kind) {
    case ZYDIS_REGCLASS_GPR8:
      *value &= high ? ~UINT64_C(0xff00) : ~UINT64_C(0xff);
      break;
    case ZYDIS_REGCLASS_GPR16:
      *value &= ~UINT64_C(0xffff);
      break;
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      *value = 0;
      break;
    default:
      break;
  }
}

bool is_vector(ZydisRegister reg) {
  ZydisRegisterClass const kind = ZydisRegisterGetClass(reg);
  return kind == ZYDIS_REGCLASS_XMM || kind == ZYDIS_REGCLASS_YMM || kind == ZYDIS_REGCLASS_ZMM;
}

}  // namespace

std::optional<SteppedOver> step_over(std::span<uint8_t const> bytes, Registers& regs) {
  static ZydisDecoder const decoder = [] {
    ZydisDecoder made;
    ZydisDecoderInit(&made, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return made;
  }();
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, bytes.data(), bytes.size(), &instruction, operands))) return {};
  SteppedOver result;
  switch (instruction.meta.category) {
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
      return {};
    case ZYDIS_CATEGORY_UNCOND_BR:
      result.as_return = true;
      return result;
    case ZYDIS_CATEGORY_CALL:
      regs.rax = 0;
      regs.rip += instruction.length;
      return result;
    case ZYDIS_CATEGORY_PUSH:
      regs.rsp -= instruction.operand_width / 8;
      break;
    case ZYDIS_CATEGORY_POP:
      regs.rsp += instruction.operand_width / 8;
      break;
    default:
      break;
  }
  bool const string = instruction.meta.category == ZYDIS_CATEGORY_STRINGOP;
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_LEAVE:
    case ZYDIS_MNEMONIC_ENTER:
      return {};
    case ZYDIS_MNEMONIC_CMPXCHG:
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B:
      regs.rflags |= kZeroFlag;
      regs.rip += instruction.length;
      return result;
    default:
      break;
  }
  for (unsigned i = 0; i < instruction.operand_count; ++i) {
    ZydisDecodedOperand const& op = operands[i];
    if (op.type != ZYDIS_OPERAND_TYPE_REGISTER || (op.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) == 0) continue;
    ZydisRegister const reg = op.reg.value;
    if (is_vector(reg)) {
      unsigned const id = number_of(reg);
      if (id < 16) result.vectors = static_cast<uint16_t>(result.vectors | 1u << id);
      continue;
    }
    // The pointers of a string instruction stay; of a repeated one the count is used up.
    bool const pointer = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg) == ZYDIS_REGISTER_RSI ||
                         ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg) == ZYDIS_REGISTER_RDI;
    if (string && pointer) continue;
    clear(regs, reg);
  }
  regs.rip += instruction.length;
  return result;
}

void clear_vectors(std::span<std::byte> xsave, uint16_t vectors) {
  for (size_t n = 0; n < 16; ++n) {
    if ((vectors >> n & 1) == 0) continue;
    for (size_t const at : {kXmmOffset + 16 * n, kAvxOffset + 16 * n}) {
      if (at + 16 <= xsave.size()) std::memset(xsave.data() + at, 0, 16);
    }
  }
}

}  // namespace vmm
