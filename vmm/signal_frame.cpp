#include "vmm/signal_frame.hpp"

#include <cpuid.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "vmm/address_space.hpp"
#include "vmm/thread.hpp"

namespace vmm {
namespace {

constexpr uint64_t kRedZone = 128;
constexpr uint64_t kXsaveHeader = 512, kXsaveMinimum = 576;
constexpr uint64_t kLegacyFeatures = 3;  // x87, SSE
constexpr size_t kXsaveMax = 4096;
constexpr uint64_t kMinSignalStack = 2048;
constexpr uint32_t kMxcsrValid = 0xffff, kMxcsrDefault = 0x1f80;
constexpr uint16_t kX87ControlDefault = 0x37f;
constexpr uint64_t kFlagDirection = 1 << 10, kFlagResume = 1 << 16, kFlagTrap = 1 << 8;
// CF PF AF ZF SF TF DF OF RF AC
constexpr uint64_t kUserFlags =
    1 | 1 << 2 | 1 << 4 | 1 << 6 | 1 << 7 | kFlagTrap | kFlagDirection | 1 << 11 | kFlagResume | 1 << 18;

using XsaveImage = std::array<std::byte, kXsaveMax>;

template <class T>
T load(XsaveImage const& image, size_t at) {
  T value;
  std::memcpy(&value, image.data() + at, sizeof value);
  return value;
}

template <class T>
void store(XsaveImage& image, size_t at, T value) {
  std::memcpy(image.data() + at, &value, sizeof value);
}

bool on_alt_stack(ThreadSignals const& s, uint64_t sp) {
  if (s.alt_flags & kSsAutodisarm) return false;
  return sp > s.alt_stack.value && sp - s.alt_stack.value <= s.alt_size;
}

int alt_state(ThreadSignals const& s, uint64_t sp) {
  if (s.alt_size == 0) return SS_DISABLE;
  return on_alt_stack(s, sp) ? SS_ONSTACK : 0;
}

// The XSAVE image that the area at `address` describes. False: the area is bad.
bool read_fp_state(AddressSpace& memory, uint64_t address, XsaveImage& image) {
  XsaveLayout const& layout = XsaveLayout::instance();
  image.fill(std::byte{0});
  store(image, 0, kX87ControlDefault);
  store(image, 24, kMxcsrDefault);
  if (address == 0) return true;  // initial state
  if (layout.size > 512 && address % 64 != 0) return false;
  if (!memory.read(GuestAddr(address), image.data(), 512)) return false;
  auto const sw = load<FpSoftwareBytes>(image, kFpSoftwareOffset);
  std::fill_n(image.begin() + kFpSoftwareOffset, sizeof sw, std::byte{0});
  uint64_t present = kLegacyFeatures;
  uint32_t magic2 = 0;
  bool const extended = sw.magic1 == kFpMagic1 && sw.xstate_size >= kXsaveMinimum && sw.xstate_size <= layout.size &&
                        sw.xstate_size <= sw.extended_size &&
                        memory.read(GuestAddr(address + sw.xstate_size), magic2) && magic2 == kFpMagic2;
  if (extended) {
    if (!memory.read(GuestAddr(address + 512), image.data() + 512, sw.xstate_size - 512)) return false;
    uint64_t const header = load<uint64_t>(image, kXsaveHeader);
    // XCOMP_BV and the reserved header bytes must be 0, as XRSTOR demands.
    for (size_t at = kXsaveHeader + 8; at < kXsaveHeader + 64; at++)
      if (image[at] != std::byte{0}) return false;
    if (header & ~layout.features) return false;
    present = header & sw.xfeatures;
  }
  store(image, kXsaveHeader, present);
  return (load<uint32_t>(image, 24) & ~kMxcsrValid) == 0;
}

}  // namespace

XsaveLayout const& XsaveLayout::instance() {
  static XsaveLayout const layout = [] {
    XsaveLayout result;
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kOsxsave = 1U << 27;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kOsxsave)) return result;
    uint32_t low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    uint64_t const enabled = low | static_cast<uint64_t>(high) << 32;
    constexpr unsigned kTileData = 18;  // dynamic: the kernel gives it on request only
    result.size = kXsaveMinimum;
    for (unsigned bit = 2; bit < 63; bit++) {
      if (!(enabled >> bit & 1) || bit == kTileData) continue;
      __cpuid_count(0xd, bit, a, b, c, d);
      if (a == 0 || b + a > kXsaveMax) continue;
      result.features |= UINT64_C(1) << bit;
      result.size = std::max(result.size, b + a);
    }
    return result;
  }();
  return layout;
}

bool build_signal_frame(Thread& thread, PendingSignal const& signal, KernelSigaction const& action, uint64_t mask) {
  if (!(action.flags & kSaRestorer)) return false;
  Registers& regs = thread.regs();
  ThreadSignals& s = thread.signals();
  AddressSpace& memory = thread.memory();
  XsaveLayout const& layout = XsaveLayout::instance();
  bool const xsave = layout.size > 512;

  uint64_t sp = regs.rsp - kRedZone;
  bool on_alt = on_alt_stack(s, regs.rsp);
  if ((action.flags & SA_ONSTACK) && alt_state(s, sp) == 0) {
    sp = s.alt_stack.value + s.alt_size;
    on_alt = true;
  }
  uint32_t const fp_bytes = layout.size + (xsave ? 4 : 0);
  uint64_t const fp = (sp - fp_bytes) & ~UINT64_C(63);
  uint64_t const at = ((fp - sizeof(RtSigframe)) & ~UINT64_C(15)) - 8;
  if (on_alt && !(at > s.alt_stack.value && at - s.alt_stack.value <= s.alt_size)) return false;

  alignas(64) XsaveImage image{};
  if (!thread.get_xsave(image)) return false;
  if (xsave) {
    store(image, kFpSoftwareOffset, FpSoftwareBytes{kFpMagic1, fp_bytes, layout.features, layout.size, {}});
    store(image, kXsaveHeader, (load<uint64_t>(image, kXsaveHeader) & layout.features) | kLegacyFeatures);
  } else {
    store(image, kFpSoftwareOffset, FpSoftwareBytes{});
  }

  RtSigframe frame{};
  frame.pretcode = action.restorer;
  frame.uc.flags = (xsave ? kUcFpXstate : 0) | kUcSigcontextSs | kUcStrictRestoreSs;
  frame.uc.stack = {s.alt_stack.value, s.alt_flags, 0, s.alt_size};
  frame.uc.mcontext = {.r8 = regs.r8,
                       .r9 = regs.r9,
                       .r10 = regs.r10,
                       .r11 = regs.r11,
                       .r12 = regs.r12,
                       .r13 = regs.r13,
                       .r14 = regs.r14,
                       .r15 = regs.r15,
                       .rdi = regs.rdi,
                       .rsi = regs.rsi,
                       .rbp = regs.rbp,
                       .rbx = regs.rbx,
                       .rdx = regs.rdx,
                       .rax = regs.rax,
                       .rcx = regs.rcx,
                       .rsp = regs.rsp,
                       .rip = regs.rip,
                       .rflags = regs.rflags,
                       .cs = kUserCs,
                       .gs = 0,
                       .fs = 0,
                       .ss = kUserSs,
                       .err = s.trap.error,
                       .trapno = s.trap.number,
                       .oldmask = mask,
                       .cr2 = s.trap.address,
                       .fpstate = fp,
                       .reserved = {}};
  frame.uc.sigmask = mask;
  frame.info = signal.info;

  if (!memory.write(GuestAddr(fp), image.data(), layout.size)) return false;
  if (xsave && !memory.write(GuestAddr(fp + layout.size), kFpMagic2)) return false;
  if (!memory.write(GuestAddr(at), frame)) return false;

  if (s.alt_flags & kSsAutodisarm) {
    s.alt_stack = {};
    s.alt_size = 0;
    s.alt_flags = SS_DISABLE;
  }
  regs.rdi = static_cast<uint64_t>(signal.signal);
  regs.rsi = at + offsetof(RtSigframe, info);
  regs.rdx = at + offsetof(RtSigframe, uc);
  regs.rax = 0;
  regs.rsp = at;
  regs.rip = action.handler;
  regs.rflags &= ~(kFlagDirection | kFlagResume | kFlagTrap);
  return true;
}

std::optional<RestoredFrame> restore_signal_frame(Thread& thread) {
  AddressSpace& memory = thread.memory();
  UContext uc;
  uint64_t const at = thread.regs().rsp - offsetof(RtSigframe, uc);
  if (!memory.read(GuestAddr(at + offsetof(RtSigframe, uc)), uc)) return std::nullopt;
  alignas(64) XsaveImage image;
  SigContext const& c = uc.mcontext;
  if (!read_fp_state(memory, c.fpstate, image) || !thread.set_xsave(image)) return std::nullopt;

  Registers& regs = thread.regs();
  uint64_t const flags = (regs.rflags & ~kUserFlags) | (c.rflags & kUserFlags);
  uint64_t const fs_base = regs.fs_base, gs_base = regs.gs_base;
  regs = {.rax = c.rax,
          .rbx = c.rbx,
          .rcx = c.rcx,
          .rdx = c.rdx,
          .rsi = c.rsi,
          .rdi = c.rdi,
          .rsp = c.rsp,
          .rbp = c.rbp,
          .r8 = c.r8,
          .r9 = c.r9,
          .r10 = c.r10,
          .r11 = c.r11,
          .r12 = c.r12,
          .r13 = c.r13,
          .r14 = c.r14,
          .r15 = c.r15,
          .rip = c.rip,
          .rflags = flags,
          .fs_base = fs_base,
          .gs_base = gs_base};
  // As the kernel: what is wrong with the stack's description is not this call's business.
  (void)change_alt_stack(thread.signals(), regs.rsp, &uc.stack, nullptr);
  return RestoredFrame{uc.sigmask & ~kUnblockable};
}

int change_alt_stack(ThreadSignals& s, uint64_t sp, SignalStack const* next, SignalStack* previous) {
  if (previous != nullptr)
    *previous = {s.alt_stack.value, alt_state(s, sp) | (s.alt_flags & kSsAutodisarm), 0, s.alt_size};
  if (next == nullptr) return 0;
  if (on_alt_stack(s, sp)) return -EPERM;
  int const mode = next->flags & ~kSsAutodisarm;
  if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return -EINVAL;
  if (mode == SS_DISABLE) {
    s.alt_stack = {};
    s.alt_size = 0;
  } else {
    if (next->size < kMinSignalStack) return -ENOMEM;
    s.alt_stack = GuestAddr(next->sp);
    s.alt_size = next->size;
  }
  s.alt_flags = next->flags;
  return 0;
}

}  // namespace vmm
