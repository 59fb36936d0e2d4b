#include "runtime/inject/strike.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace vmsrs::runtime::inject {
namespace {

// The page of code; each piece is entered as a function.
constexpr std::array<uint8_t, 3> kRead{0x48, 0x8b, 0x07};                        // mov (%rdi),%rax
constexpr std::array<uint8_t, 3> kWrite{0x48, 0x89, 0x37};                       // mov %rsi,(%rdi)
constexpr std::array<uint8_t, 6> kDivision{0x31, 0xc9, 0x31, 0xd2, 0xf7, 0xf1};  // xor ecx,ecx; xor edx,edx; div ecx
constexpr std::array<uint8_t, 2> kUd2{0x0f, 0x0b};
constexpr std::array<uint8_t, 1> kHlt{0xf4}, kInt3{0xcc};
constexpr std::array<uint8_t, 5> kRecursion{0xe8, 0xfb, 0xff, 0xff, 0xff};  // 1: call 1b
constexpr std::array<uint8_t, 4> kForEver{0xf3, 0x90, 0xeb, 0xfc};          // 1: pause; jmp 1b
constexpr std::array<uint8_t, 32> kTgkill{0xb8, 39,   0, 0, 0, 0x0f, 0x05,  // getpid
                                          0x89, 0xc7,                       // mov %eax,%edi
                                          0xb8, 186,  0, 0, 0, 0x0f, 0x05,  // gettid
                                          0x89, 0xc6,                       // mov %eax,%esi
                                          0xba, 6,    0, 0, 0,              // SIGABRT
                                          0xb8, 234,  0, 0, 0, 0x0f, 0x05,  // tgkill
                                          0x0f, 0x0b};
constexpr std::array<uint8_t, 31> kWait{0xb8, 202,  0,    0,    0,              // futex
                                        0x48, 0x8d, 0x3d, 0xf4, 0,    0,    0,  // lea 0xf4(%rip),%rdi: 0x100 from here
                                        0xbe, 0x80, 0,    0,    0,              // FUTEX_WAIT_PRIVATE
                                        0x31, 0xd2, 0x45, 0x31, 0xd2,           // of the value 0, without an end
                                        0x0f, 0x05, 0xeb, 0xe6, 0x90, 0x90, 0x90, 0x90, 0x90};

enum Piece : uint64_t {
  kAtRead = 0,
  kAtWrite = 0x20,
  kAtDivision = 0x40,
  kAtUd2 = 0x60,
  kAtHlt = 0x80,
  kAtInt3 = 0xa0,
  kAtRecursion = 0xc0,
  kAtForEver = 0xe0,
  kAtTgkill = 0x100,
  kAtWait = 0x140
};

constexpr uint64_t kNonCanonicalBit = UINT64_C(1) << 62;
constexpr uint64_t kStackReach = 4096;
constexpr unsigned kTries = 200;
// Of rflags: carry, parity, zero, sign, direction, overflow. The others are the system's.
constexpr std::array<unsigned, 6> kFlags{0, 2, 6, 7, 10, 11};

uint64_t* register_at(vmm::Registers& regs, unsigned index) {
  static constexpr std::array<uint64_t vmm::Registers::*, kRegisterCount> kMembers{
      &vmm::Registers::rax, &vmm::Registers::rbx, &vmm::Registers::rcx,   &vmm::Registers::rdx, &vmm::Registers::rsi,
      &vmm::Registers::rdi, &vmm::Registers::rsp, &vmm::Registers::rbp,   &vmm::Registers::r8,  &vmm::Registers::r9,
      &vmm::Registers::r10, &vmm::Registers::r11, &vmm::Registers::r12,   &vmm::Registers::r13, &vmm::Registers::r14,
      &vmm::Registers::r15, &vmm::Registers::rip, &vmm::Registers::rflags};
  return &(regs.*kMembers.at(index));
}

uint64_t next(uint64_t& state) {
  return mix(state++);
}

}  // namespace

vmm::Result<std::unique_ptr<Striker>> Striker::create(vmm::AddressSpace& memory, Recovery* recovery) {
  auto const page = memory.map_shared_area(vmm::kPageSize, "[inject]");
  if (!page) return tl::unexpected(page.error());
  auto const put = [&](uint64_t at, auto const& bytes) {
    std::memcpy(memory.alias(*page + at), bytes.data(), bytes.size());
  };
  put(kAtRead, kRead);
  put(kAtWrite, kWrite);
  put(kAtDivision, kDivision);
  put(kAtUd2, kUd2);
  put(kAtHlt, kHlt);
  put(kAtInt3, kInt3);
  put(kAtRecursion, kRecursion);
  put(kAtForEver, kForEver);
  put(kAtTgkill, kTgkill);
  put(kAtWait, kWait);
  memory.set_area_protection(*page, PROT_READ | PROT_EXEC);
  return std::unique_ptr<Striker>(new Striker(memory, recovery, page->value));
}

// The word below rsp may be a leaf function's own (its red zone): the thread is not to come back to it.
void Striker::call(vmm::Thread& thread, uint64_t to) const {
  vmm::Registers& regs = thread.regs();
  uint64_t const back = regs.rip;
  if (memory_.write(vmm::GuestAddr(regs.rsp - sizeof back), back)) regs.rsp -= sizeof back;
  regs.rip = to;
}

uint64_t Striker::unmapped(uint64_t& state) const {
  auto const pieces = memory_.pieces();
  for (unsigned i = 0; i < kTries; ++i) {
    auto const& piece = pieces[next(state) % pieces.size()];
    uint64_t const at = piece.guest_base.value + next(state) % piece.size;
    vmm::Vma vma;
    if (memory_.contains(vmm::GuestAddr(at), 8) && !memory_.find_vma(vmm::GuestAddr(at), vma)) return at;
  }
  return 0x10000;  // below the windows nothing is ever mapped
}

std::vector<vmm::GuestRange> Striker::writable() const {
  std::vector<vmm::GuestRange> all;
  for (vmm::Vma const& vma : memory_.vmas()) {
    bool const monitors = vma.name.starts_with("[") && vma.name != "[heap]" && vma.name != "[stack]";
    if ((vma.prot & PROT_WRITE) != 0 && vma.backing == vmm::Backing::kMemfd && !monitors)
      all.push_back({vma.start, vma.end - vma.start});
  }
  return all;
}

std::optional<uint64_t> Striker::used_word(std::vector<vmm::GuestRange> const& ranges, uint64_t& state) const {
  constexpr uint64_t kWeightAtMost = 4 << 20;  // of one range: a few great ones must not hide the others
  uint64_t total = 0;
  for (auto const& range : ranges) total += std::min(range.size, kWeightAtMost);
  auto const pieces = memory_.pieces();
  for (unsigned i = 0; i < kTries && total != 0; ++i) {
    uint64_t pick = next(state) % total;
    auto range = ranges.begin();
    for (; pick >= std::min(range->size, kWeightAtMost); ++range) pick -= std::min(range->size, kWeightAtMost);
    // Pages never touched stay so: a look at the alias would make them.
    uint64_t page = vmm::page_down(range->start.value + next(state) % range->size);
    for (auto const& piece : pieces) {
      if (page < piece.guest_base.value || page - piece.guest_base.value >= piece.size) continue;
      auto const offset = static_cast<off_t>(page - piece.guest_base.value + piece.memfd_offset);
      off_t const data = lseek(memory_.memfd(), offset, SEEK_DATA);
      page = data < 0 ? 0 : page + static_cast<uint64_t>(data - offset);
      break;
    }
    if (page < vmm::page_down(range->start.value) || page >= range->end().value) continue;
    auto const* const words = reinterpret_cast<uint64_t const*>(memory_.alias(vmm::GuestAddr(page)));
    constexpr uint64_t kWords = vmm::kPageSize / 8;
    for (uint64_t n = 0, at = next(state) % kWords; n < kWords; ++n, at = (at + 1) % kWords) {
      uint64_t const address = page + at * 8;
      bool const inside = address >= range->start.value && address + 8 <= range->end().value;
      if (inside && __atomic_load_n(&words[at], __ATOMIC_RELAXED) != 0) return address;
    }
  }
  return std::nullopt;
}

std::optional<Struck> Striker::flip_bit(uint64_t word, Injection const& injection, uint64_t& state) const {
  Struck struck;
  struck.address = injection.address.value_or(word);
  struck.bit = injection.bit.value_or(static_cast<unsigned>(next(state) % 64));
  vmm::GuestAddr const at(*struck.address & ~UINT64_C(7));
  if (!memory_.contains(at, 8)) return std::nullopt;
  struck.old_value =
      __atomic_fetch_xor(reinterpret_cast<uint64_t*>(memory_.alias(at)), UINT64_C(1) << *struck.bit, __ATOMIC_RELAXED);
  return struck;
}

std::optional<Struck> Striker::stray(Injection const& injection, vmm::Thread& thread, uint64_t& state, bool logged) {
  if (recovery_ == nullptr) return std::nullopt;
  auto const word = injection.address ? injection.address : used_word(recovery_->monitored(), state);
  if (!word) return std::nullopt;
  Struck struck;
  struck.address = *word & ~UINT64_C(7);
  struck.value = injection.value.value_or(next(state));
  vmm::GuestAddr const at(*struck.address);
  if (!memory_.contains(at, 8)) return std::nullopt;
  struck.old_value = __atomic_load_n(reinterpret_cast<uint64_t*>(memory_.alias(at)), __ATOMIC_RELAXED);
  if (logged && !recovery_->logged_write(thread, at, *struck.value)) return std::nullopt;
  if (!logged) __atomic_store_n(reinterpret_cast<uint64_t*>(memory_.alias(at)), *struck.value, __ATOMIC_RELAXED);
  thread.regs().rdi = 0;
  call(thread, code_ + kAtRead);
  return struck;
}

std::optional<Struck> Striker::strike(Injection const& injection, vmm::Thread& thread) {
  uint64_t state = injection.seed;
  vmm::Registers& regs = thread.regs();
  Struck struck;
  auto const access = [&](Piece piece, uint64_t address) {
    struck.address = injection.address.value_or(address);
    regs.rdi = *struck.address;
    regs.rsi = struck.value.emplace(injection.value.value_or(next(state)));
    if (piece == kAtRead) struck.value.reset();
    call(thread, code_ + piece);
    return struck;
  };
  auto const enter = [&](Piece piece) {
    call(thread, code_ + piece);
    return struck;
  };
  auto const jump = [&](uint64_t address) {
    struck.address = injection.address.value_or(address);
    call(thread, *struck.address);
    return struck;
  };
  switch (injection.kind) {
    case Kind::kNullRead:
      return access(kAtRead, 0);
    case Kind::kNullWrite:
      return access(kAtWrite, 0);
    case Kind::kWildRead:
      return access(kAtRead, unmapped(state));
    case Kind::kWildWrite:
      return access(kAtWrite, unmapped(state));
    case Kind::kNonCanonical:
      return access(kAtRead, (next(state) | kNonCanonicalBit) & ~(kNonCanonicalBit << 1));
    case Kind::kCodeWrite:
      return access(kAtWrite, regs.rip);
    case Kind::kDivide:
      return enter(kAtDivision);
    case Kind::kIllegal:
      return enter(kAtUd2);
    case Kind::kPrivileged:
      return enter(kAtHlt);
    case Kind::kBreakpoint:
      return enter(kAtInt3);
    case Kind::kJumpNull:
      return jump(0);
    case Kind::kJumpWild:
      return jump(unmapped(state));
    case Kind::kAbort:
      return enter(kAtTgkill);
    case Kind::kOverflow:
      return enter(kAtRecursion);
    case Kind::kLoop:
      return enter(kAtForEver);
    case Kind::kSleep:
      return enter(kAtWait);
    case Kind::kFlipRegister:
    case Kind::kRegister: {
      bool const one_bit = injection.kind == Kind::kFlipRegister;
      unsigned const general = kRegisterCount - 2;
      struck.reg = injection.reg.value_or(static_cast<unsigned>(next(state) % (one_bit ? kRegisterCount : general)));
      uint64_t* const reg = register_at(regs, *struck.reg);
      struck.old_value = *reg;
      if (one_bit) {
        uint64_t const drawn = next(state);
        bool const flags = *struck.reg == kRegisterCount - 1;
        struck.bit =
            injection.bit.value_or(flags ? kFlags.at(drawn % kFlags.size()) : static_cast<unsigned>(drawn % 64));
        if (flags && std::ranges::find(kFlags, *struck.bit) == kFlags.end()) struck.bit = kFlags[0];
        *reg ^= UINT64_C(1) << *struck.bit;
      } else {
        struck.value = injection.value.value_or(next(state));
        *reg = *struck.value;
      }
      return struck;
    }
    case Kind::kFlipStack:
      return flip_bit((regs.rsp & ~UINT64_C(7)) + next(state) % (kStackReach / 8) * 8, injection, state);
    case Kind::kFlipMonitored:
    case Kind::kFlipMemory: {
      bool const monitored = injection.kind == Kind::kFlipMonitored && recovery_ != nullptr;
      auto const word = used_word(monitored ? recovery_->monitored() : writable(), state);
      return word ? flip_bit(*word, injection, state) : std::nullopt;
    }
    case Kind::kFlipLog: {
      if (recovery_ == nullptr) return std::nullopt;
      auto const view = recovery_->look_at(thread);
      if (view.slot == 0) return std::nullopt;
      // The newest 64 records of the ring, or the slot's own words.
      uint64_t const drawn = next(state);
      uint64_t const record = (view.head - 1 - drawn % 64) % kRingRecords;
      uint64_t const in_ring = view.ring + record * sizeof(srs_record) + next(state) % 4 * 8;
      uint64_t const in_slot = view.slot + next(state) % (offsetof(srs_slot, guest_private) / 8) * 8;
      return flip_bit((drawn >> 32) % 2 == 0 ? in_ring : in_slot, injection, state);
    }
    case Kind::kSmashStack: {
      constexpr unsigned kSmashed = 16;
      std::array<uint64_t, kSmashed> junk{};
      for (uint64_t& word : junk) word = next(state);
      struck.address = regs.rsp;
      if (!memory_.write(vmm::GuestAddr(regs.rsp), junk.data(), sizeof junk)) return std::nullopt;
      return struck;
    }
    case Kind::kStrayLogged:
      return stray(injection, thread, state, true);
    case Kind::kStrayUnlogged:
      return stray(injection, thread, state, false);
  }
  return std::nullopt;
}

}  // namespace vmsrs::runtime::inject
