#include "vmm/call_sites.hpp"

#include <Zydis/Zydis.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "vmm/mailbox_layout.h"

namespace vmm {
namespace {

constexpr uint64_t kAreaBytes = 64 << 10, kTrampolineBytes = 64, kMostAreas = 8;
constexpr uint64_t kReach = (2ULL << 30) - (1 << 20);
constexpr uint64_t kFsgsbase = 2;  // AT_HWCAP2
// Bytes looked at before a site, and around it for padding.
constexpr uint64_t kBefore = 96, kAround = 127;
constexpr size_t kWarmUp = 16;  // decoding needs about this many bytes to fall into step
constexpr size_t kLeastVotes = 8;
constexpr size_t kMostMoved = 15;  // bytes of one instruction
constexpr size_t kLongJump = 5;

ZydisDecoder const& decoder() {
  static ZydisDecoder const made = [] {
    ZydisDecoder d;
    ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return d;
  }();
  return made;
}

struct Instruction {
  unsigned length = 0;  // 0: none
  bool is_nop = false;
  bool movable = false;  // does the same at another address, and goes on behind itself
};

Instruction instruction_at(std::span<uint8_t const> code, size_t at) {
  ZydisDecodedInstruction i;
  if (at >= code.size() ||
      ZYAN_FAILED(ZydisDecoderDecodeInstruction(&decoder(), nullptr, code.data() + at, code.size() - at, &i))) {
    return {};
  }
  bool const here = (i.attributes & ZYDIS_ATTRIB_IS_RELATIVE) != 0 || i.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE ||
                    i.meta.category == ZYDIS_CATEGORY_SYSCALL || i.meta.category == ZYDIS_CATEGORY_INTERRUPT ||
                    i.meta.category == ZYDIS_CATEGORY_RET || i.meta.category == ZYDIS_CATEGORY_SYSRET;
  return {i.length, i.mnemonic == ZYDIS_MNEMONIC_NOP, !here};
}

class Bytes {
 public:
  template <class... B>
  void put(B... bytes) {
    (code_.push_back(static_cast<uint8_t>(bytes)), ...);
  }
  template <class T>
  void value(T v) {
    uint8_t raw[sizeof v];
    std::memcpy(raw, &v, sizeof v);
    code_.insert(code_.end(), raw, raw + sizeof v);
  }
  // The distance from the end of these four bytes, laid down at `here`, to `target`.
  void distance(uint64_t here, uint64_t target) {
    value(static_cast<int32_t>(static_cast<int64_t>(target - (here + code_.size() + 4))));
  }
  [[nodiscard]] std::vector<uint8_t> const& code() const { return code_; }

 private:
  std::vector<uint8_t> code_;
};

uint64_t apart(uint64_t a, uint64_t b) {
  return a < b ? b - a : a - b;
}

}  // namespace

bool starts_instruction(std::span<uint8_t const> code, size_t at, size_t boundary) {
  size_t votes = 0, agree = 0;
  for (size_t start = 0; start + kWarmUp <= at; ++start) {
    bool met = false;
    size_t here = start;
    while (here < boundary) {
      met |= here == at;
      unsigned const length = instruction_at(code, here).length;
      if (length == 0) break;
      here += length;
    }
    if (here != boundary) continue;
    ++votes;
    agree += met ? 1 : 0;
  }
  return votes >= kLeastVotes && agree * 10 >= votes * 9;
}

CallSites::CallSites(AddressSpace& memory, uint64_t stubs) noexcept
    : memory_(memory), stubs_(stubs), possible_((getauxval(AT_HWCAP2) & kFsgsbase) != 0) {}

CallSites::Use* CallSites::use_of(uint64_t rip) noexcept {
  size_t const first = (rip * 0x9e3779b97f4a7c15ULL) >> 54;
  for (size_t i = 0; i < 8; ++i) {
    Use& use = uses_[(first + i) % uses_.size()];
    uint64_t known = use.rip.load(std::memory_order_relaxed);
    if (known == 0 && use.rip.compare_exchange_strong(known, rip, std::memory_order_relaxed)) known = rip;
    if (known == rip) return &use;
  }
  return nullptr;
}

bool CallSites::note(uint64_t rip) noexcept {
  Use* const use = possible_ ? use_of(rip) : nullptr;
  if (use == nullptr || use->count.load(std::memory_order_relaxed) >= kUsesBeforePatch) return false;
  return use->count.fetch_add(1, std::memory_order_relaxed) + 1 == kUsesBeforePatch;
}

void CallSites::put_off(uint64_t rip) noexcept {
  if (Use* const use = use_of(rip)) use->count = 0;
}

// Room for one trampoline within a jump's reach of `near`.
std::byte* CallSites::room(uint64_t near, uint64_t& address) {
  auto area = std::ranges::find_if(
      areas_, [&](Area const& a) { return a.used + kTrampolineBytes <= kAreaBytes && apart(a.start, near) < kReach; });
  if (area == areas_.end()) {
    if (areas_.size() == kMostAreas) return nullptr;
    auto const made = memory_.map_shared_area(kAreaBytes, "[vmsrs calls]", GuestAddr(near));
    if (!made) return nullptr;
    memory_.set_area_protection(*made, PROT_READ | PROT_EXEC);
    area = areas_.insert(areas_.end(), Area{made->value, 0});
  }
  address = area->start + area->used;
  area->used += kTrampolineBytes;
  memory_.mark_written(GuestAddr(address), kTrampolineBytes);
  return memory_.alias(GuestAddr(address));
}

uint64_t CallSites::trampoline(std::span<uint8_t const> moved, uint64_t syscall) {
  uint64_t here = 0;
  std::byte* const to = room(syscall, here);
  if (to == nullptr) return 0;
  Bytes b;
  for (uint8_t const byte : moved) b.put(byte);
  b.put(0xf3, 0x49, 0x0f, 0xae, 0xcb);  // rdgsbase %r11
  b.put(0x48, 0xb9);                    // movabs $-stubs, %rcx
  b.value(-stubs_);
  b.put(0x4c, 0x01, 0xd9);  // add %r11, %rcx
  b.put(0x48, 0x81, 0xf9);  // cmp $size of all stubs, %rcx
  b.value(static_cast<int32_t>(MB_DISTANCE));
  b.put(0x73, 17);          // jae to the last jump: not our GS base
  b.put(0x48, 0x8d, 0x0d);  // lea behind the syscall, %rcx
  b.distance(here, syscall + 2);
  b.put(0x49, 0x81, 0xc3);  // add $STUB_DIRECT, %r11
  b.value(static_cast<int32_t>(STUB_DIRECT));
  b.put(0x41, 0xff, 0xe3);  // jmp *%r11
  b.put(0xe9);              // jmp to the syscall
  b.distance(here, syscall);
  static_assert(kMostMoved + 5 + 10 + 3 + 7 + 2 + 7 + 7 + 3 + 5 <= kTrampolineBytes);
  std::memcpy(to, b.code().data(), b.code().size());
  return here;
}

// Five bytes of padding between two functions, within a short jump of `from` (its end): nops from behind a `ret` up to
// a multiple of 16. 0: none.
uint64_t CallSites::padding(uint64_t from) const {
  uint64_t const low = from - kAround - kBefore, size = 2 * kAround + kBefore;
  std::vector<uint8_t> code(size);
  if (!memory_.read(GuestAddr(low), code.data(), size)) return 0;
  for (size_t at = kBefore; at + 5 < size; ++at) {
    if (code[at - 1] != 0xc3) continue;
    uint64_t const end = (low + at + 15) & ~15ULL;
    size_t here = at;
    while (low + here < end) {
      Instruction const i = instruction_at(code, here);
      if (!i.is_nop) break;
      here += i.length;
    }
    if (low + here != end || here - at < 5 || !starts_instruction(code, at - 1, at)) continue;
    if (apart(low + at, from) < kAround - 16) return low + at;
  }
  return 0;
}

bool CallSites::patch(uint64_t rip) {
  uint64_t const syscall = rip - 2;
  Vma vma;
  if (!memory_.find_vma(GuestAddr(syscall), vma) || vma.backing != Backing::kMemfd) return false;
  if ((vma.prot & PROT_EXEC) == 0 || (vma.prot & PROT_WRITE) != 0) return false;
  if (syscall < vma.start.value + 2 * kBefore + kAround || syscall + 2 + kAround > vma.end.value) return false;
  std::array<uint8_t, kBefore + 2> code;
  if (!memory_.read(GuestAddr(syscall - kBefore), code.data(), code.size())) return false;
  if (code[kBefore] != 0x0f || code[kBefore + 1] != 0x05) return false;
  // The instruction in front: the one length on which decoding agrees.
  size_t length = 2;
  for (; length <= kMostMoved; ++length) {
    Instruction const i = instruction_at({code.data(), kBefore}, kBefore - length);
    if (i.length == length && starts_instruction(code, kBefore - length, kBefore)) {
      if (!i.movable) return false;
      break;
    }
  }
  if (length > kMostMoved) return false;
  uint64_t const site = syscall - length;
  uint64_t const pad = length < kLongJump ? padding(syscall) : 0;
  if (length < kLongJump && pad == 0) return false;
  uint64_t const to = trampoline({&code[kBefore - length], length}, syscall);
  if (to == 0) return false;
  Bytes change;
  if (length >= kLongJump) {
    change.put(0xe9);
    change.distance(site, to);
  } else {
    Bytes jump;
    jump.put(0xe9);
    jump.distance(pad, to);
    memory_.mark_written(GuestAddr(pad), jump.code().size());
    std::memcpy(memory_.alias(GuestAddr(pad)), jump.code().data(), jump.code().size());
    change.put(0xeb, static_cast<int8_t>(static_cast<int64_t>(pad - (site + 2))));
  }
  while (change.code().size() < length) change.put(0x90);
  memory_.mark_written(GuestAddr(site), change.code().size());
  std::memcpy(memory_.alias(GuestAddr(site)), change.code().data(), change.code().size());
  return true;
}

}  // namespace vmm
