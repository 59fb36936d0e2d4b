// The kernel's x86-64 signal frame (arch/x86/include/asm/sigframe.h, uapi/asm/sigcontext.h):
//
//   stack pointer before - 128 (red zone), or top of the alternate stack
//   XSAVE area (Intel SDM vol. 1 chapter 13, standard format), 64-byte aligned, with the software
//     bytes at offset 464 and FP_XSTATE_MAGIC2 behind it
//   struct RtSigframe, so that rsp + 8 is 16-byte aligned at the handler's entry
//
// Unwinders find the frame by the restorer's code; its layout is fixed ABI.
#pragma once

#include <csignal>
#include <cstdint>

#include "vmm/signals.hpp"

namespace vmm {

struct SigContext {
  uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
  uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
  uint16_t cs, gs, fs, ss;
  uint64_t err, trapno, oldmask, cr2;
  uint64_t fpstate;  // guest address of the XSAVE area
  uint64_t reserved[8];
};

struct SignalStack {
  uint64_t sp = 0;
  int32_t flags = 0;
  uint32_t pad = 0;
  uint64_t size = 0;
};

struct UContext {
  uint64_t flags, link;
  SignalStack stack;
  SigContext mcontext;
  uint64_t sigmask;
};

struct RtSigframe {
  uint64_t pretcode;  // the restorer: where the handler returns to
  UContext uc;
  siginfo_t info;
};

// struct _fpx_sw_bytes, in the legacy area's software bytes.
struct FpSoftwareBytes {
  uint32_t magic1 = 0, extended_size = 0;
  uint64_t xfeatures = 0;
  uint32_t xstate_size = 0;
  uint32_t padding[7] = {};
};

static_assert(sizeof(SigContext) == 256 && sizeof(SignalStack) == 24 && sizeof(UContext) == 304);
static_assert(sizeof(RtSigframe) == 440 && sizeof(FpSoftwareBytes) == 48);

inline constexpr uint64_t kUcFpXstate = 1, kUcSigcontextSs = 2, kUcStrictRestoreSs = 4;
inline constexpr uint32_t kFpMagic1 = 0x46505853, kFpMagic2 = 0x46505845;
inline constexpr uint64_t kFpSoftwareOffset = 464;
inline constexpr uint16_t kUserCs = 0x33, kUserSs = 0x2b;
inline constexpr uint64_t kSaRestorer = 0x04000000;
inline constexpr int kSsAutodisarm = static_cast<int>(1U << 31);

// What the guest's frames hold of the extended state: every enabled component that lies within
// 4096 bytes and needs no permission of its own (not AMX tile data).
struct XsaveLayout {
  uint64_t features = 3;  // as XCR0
  uint32_t size = 512;    // bytes, header included; 512: this CPU has no XSAVE
  static XsaveLayout const& instance();
};

// Makes the frame for `signal` on the thread's stack (SA_ONSTACK honoured) and sets the registers
// for the handler. `mask` goes into uc_sigmask. False: the stack cannot hold it, or the action has
// no restorer; registers and memory above the stack pointer are as before.
bool build_signal_frame(Thread& thread, PendingSignal const& signal, KernelSigaction const& action, uint64_t mask);

struct RestoredFrame {
  uint64_t mask = 0;
};
// rt_sigreturn: reads the frame that the stack pointer names (the restorer's address popped), sets
// registers, XSAVE state and the alternate stack. Flags are limited to what ring 3 may change,
// segments are not taken. Nullopt: the frame is bad; the registers are as before.
std::optional<RestoredFrame> restore_signal_frame(Thread& thread);

// sigaltstack(2): 0 or -errno. `next` null: only ask.
int change_alt_stack(ThreadSignals& signals, uint64_t sp, SignalStack const* next, SignalStack* previous);

}  // namespace vmm
