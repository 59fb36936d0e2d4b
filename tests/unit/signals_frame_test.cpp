// links: vmm
// The signal frame against the one that the real kernel builds: same registers, same stack, same place, so the bytes
// must be the same. The stacks lie in guest memory, whose host address is the same.
#include <gtest/gtest.h>
#include <immintrin.h>
#include <setjmp.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <csignal>
#include <cstddef>

#include "tests/unit/signals_double.hpp"
#include "vmm/signal_frame.hpp"

namespace {

using vmm::GuestAddr;
using vmm::kFpMagic1;
using vmm::kFpMagic2;
using vmm::RtSigframe;
using vmm_test::FakeProcess;
using vmm_test::FakeThread;

constexpr uint64_t kStackSize = 64 * 1024;

// What the kernel's frame held, and where it was.
struct Native {
  uint64_t at = 0;
  RtSigframe frame{};
  uint32_t fp_size = 0;  // with the magic behind it
  alignas(64) std::array<std::byte, 8192> fp{};
};
Native native;
sigjmp_buf after_fault;
bool leave_by_jump = false;

void capture(int, siginfo_t*, void* context) {
  native.at = reinterpret_cast<uint64_t>(context) - offsetof(RtSigframe, uc);
  std::memcpy(&native.frame, reinterpret_cast<void*>(native.at), sizeof native.frame);
  auto const* fp = reinterpret_cast<std::byte const*>(native.frame.uc.mcontext.fpstate);
  vmm::FpSoftwareBytes sw;
  std::memcpy(&sw, fp + vmm::kFpSoftwareOffset, sizeof sw);
  native.fp_size = sw.magic1 == kFpMagic1 ? sw.extended_size : 512;
  std::memcpy(native.fp.data(), fp, native.fp_size);
  if (leave_by_jump) siglongjmp(after_fault, 1);
}

vmm::KernelSigaction install(int sig, int flags) {
  struct sigaction action {};
  action.sa_sigaction = capture;
  action.sa_flags = SA_SIGINFO | flags;
  sigaction(sig, &action, nullptr);
  // The kernel's own view, with the restorer that libc adds.
  vmm::KernelSigaction kernel;
  syscall(SYS_rt_sigaction, sig, nullptr, &kernel, 8);
  return kernel;
}

vmm::Registers registers_of(vmm::SigContext const& c) {
  return {.rax = c.rax,
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
          .rflags = c.rflags};
}

bool same(vmm::Registers const& a, vmm::Registers const& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

class SignalFrame : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!vmm_test::kGuestMemory) GTEST_SKIP() << "needs guest memory, which AddressSanitizer does not allow";
    stack = process.map(kStackSize);
  }
  void TearDown() override {
    stack_t off{};
    off.ss_flags = SS_DISABLE;
    sigaltstack(&off, nullptr);
  }
  // The thread as the kernel's was when it made the frame.
  void take_native_state() {
    vmm::SigContext const& c = native.frame.uc.mcontext;
    thread.regs() = registers_of(c);
    thread.xsave.fill(std::byte{0});
    std::memcpy(thread.xsave.data(), native.fp.data(), std::min<size_t>(native.fp_size - 4, thread.xsave.size()));
    std::memset(thread.xsave.data() + vmm::kFpSoftwareOffset, 0, sizeof(vmm::FpSoftwareBytes));
    vmm::SignalStack const& s = native.frame.uc.stack;
    thread.signals().alt_stack = GuestAddr(s.sp);
    thread.signals().alt_size = s.size;
    thread.signals().alt_flags = s.flags;
    thread.signals().trap = {c.trapno, c.err, c.cr2};
  }
  void expect_same_frame() {
    RtSigframe ours{};
    uint64_t const at = thread.regs().rsp;
    ASSERT_EQ(at, native.at);
    ASSERT_TRUE(process.memory().read(GuestAddr(at), ours));
    // All but the reserved words, which the kernel leaves as the stack had them.
    vmm::SigContext const &a = ours.uc.mcontext, &b = native.frame.uc.mcontext;
    EXPECT_EQ(ours.pretcode, native.frame.pretcode);
    EXPECT_EQ(ours.uc.flags, native.frame.uc.flags);
    EXPECT_EQ(ours.uc.link, native.frame.uc.link);
    EXPECT_EQ(ours.uc.sigmask, native.frame.uc.sigmask);
    EXPECT_EQ(a.fpstate, b.fpstate);
    EXPECT_EQ(a.cs, b.cs);
    EXPECT_EQ(a.ss, b.ss);
    EXPECT_EQ(a.trapno, b.trapno);
    EXPECT_EQ(a.err, b.err);
    EXPECT_EQ(a.cr2, b.cr2);
    EXPECT_EQ(std::memcmp(&a, &b, offsetof(vmm::SigContext, reserved)), 0);
    EXPECT_EQ(std::memcmp(&ours.uc.stack, &native.frame.uc.stack, sizeof ours.uc.stack), 0);
    EXPECT_EQ(std::memcmp(&ours.info, &native.frame.info, sizeof ours.info), 0);
    std::vector<std::byte> fp(native.fp_size);
    ASSERT_TRUE(process.memory().read(GuestAddr(a.fpstate), fp.data(), fp.size()));
    EXPECT_EQ(std::memcmp(fp.data(), native.fp.data(), 464), 0) << "legacy area";
    EXPECT_EQ(std::memcmp(fp.data() + 464, native.fp.data() + 464, 48), 0) << "software bytes";
    EXPECT_EQ(std::memcmp(fp.data() + 512, native.fp.data() + 512, 64), 0) << "XSAVE header";
    EXPECT_EQ(std::memcmp(fp.data(), native.fp.data(), fp.size()), 0) << "components, magic";
  }
  vmm::PendingSignal native_signal() {
    vmm::PendingSignal s;
    s.signal = native.frame.info.si_signo;
    s.info = native.frame.info;
    return s;
  }

  FakeProcess process;
  FakeThread& thread = process.add_thread();
  GuestAddr stack;
};

void on_guest_stack() {
  __m128i const marker = _mm_set1_epi32(0x5a5a1234);
  asm volatile("movdqa %0, %%xmm9\n fldpi" : : "x"(marker) : "xmm9");
  raise(SIGUSR1);
  asm volatile("fstp %st(0)");
}

// ThreadSanitizer calls handlers of asynchronous signals itself, later: that frame is not the kernel's.
#ifdef __SANITIZE_THREAD__
constexpr bool kKernelsFrame = false;
#else
constexpr bool kKernelsFrame = true;
#endif

TEST_F(SignalFrame, IsTheKernelsOnAnOrdinaryStack) {
  if (!kKernelsFrame) GTEST_SKIP() << "ThreadSanitizer takes the signal first";
  auto const action = install(SIGUSR1, 0);
  ucontext_t here, there;
  getcontext(&there);
  there.uc_stack.ss_sp = reinterpret_cast<void*>(stack.value);
  there.uc_stack.ss_size = kStackSize;
  there.uc_link = &here;
  makecontext(&there, on_guest_stack, 0);
  ASSERT_EQ(swapcontext(&here, &there), 0);
  ASSERT_NE(native.at, 0U);

  take_native_state();
  vmm::Registers const before = thread.regs();
  ASSERT_TRUE(vmm::build_signal_frame(thread, native_signal(), action, native.frame.uc.sigmask));
  expect_same_frame();
  EXPECT_LT(thread.regs().rsp, before.rsp - 128);  // the red zone is left alone
  EXPECT_EQ((thread.regs().rsp + 8) % 16, 0U);
  EXPECT_EQ(thread.regs().rip, action.handler);
  EXPECT_EQ(thread.regs().rdi, static_cast<uint64_t>(SIGUSR1));
  EXPECT_EQ(thread.regs().rsi, native.at + offsetof(RtSigframe, info));
  EXPECT_EQ(thread.regs().rdx, native.at + offsetof(RtSigframe, uc));
  EXPECT_EQ(thread.regs().rax, 0U);
}

TEST_F(SignalFrame, IsTheKernelsOnAnAlternateStack) {
  if (!kKernelsFrame) GTEST_SKIP() << "ThreadSanitizer takes the signal first";
  stack_t alt{};
  alt.ss_sp = reinterpret_cast<void*>(stack.value);
  alt.ss_size = kStackSize;
  ASSERT_EQ(sigaltstack(&alt, nullptr), 0);
  auto const action = install(SIGUSR2, SA_ONSTACK);
  sigset_t mask, old;
  sigemptyset(&mask);
  sigaddset(&mask, SIGWINCH);
  pthread_sigmask(SIG_BLOCK, &mask, &old);
  sigqueue(getpid(), SIGUSR2, {.sival_int = 99});
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  take_native_state();
  ASSERT_TRUE(vmm::build_signal_frame(thread, native_signal(), action, native.frame.uc.sigmask));
  expect_same_frame();
  EXPECT_NE(native.frame.uc.sigmask & vmm::sigbit(SIGWINCH), 0U);
}

TEST_F(SignalFrame, OfAFaultHasTheKernelsTrapNumbers) {
  GuestAddr const closed = process.map(4096, PROT_NONE);
  stack_t alt{};
  alt.ss_sp = reinterpret_cast<void*>(stack.value);
  alt.ss_size = kStackSize;
  ASSERT_EQ(sigaltstack(&alt, nullptr), 0);
  struct sigaction before {};
  sigaction(SIGSEGV, nullptr, &before);
  auto const action = install(SIGSEGV, SA_ONSTACK);
  leave_by_jump = true;
  if (sigsetjmp(after_fault, 1) == 0) *reinterpret_cast<char volatile*>(closed.value + 7);
  leave_by_jump = false;
  sigaction(SIGSEGV, &before, nullptr);
  take_native_state();
  thread.signals().trap = {};
  process.signals().set_action(process, SIGSEGV, action);
  thread.signals().blocked = native.frame.uc.sigmask;
  auto const outcome = process.signals().force(thread, native.frame.info);
  EXPECT_EQ(outcome.kind, vmm::SignalOutcome::kHandler);
  expect_same_frame();
  EXPECT_EQ(native.frame.uc.mcontext.cr2, closed.value + 7);
}

// ---- rt_sigreturn ----

class SignalReturn : public SignalFrame {
 protected:
  void SetUp() override {
    SignalFrame::SetUp();
    if (IsSkipped()) return;
    uint64_t n = 1;
    auto* words = reinterpret_cast<uint64_t*>(&thread.regs());
    for (size_t i = 0; i < sizeof(vmm::Registers) / 8; i++) words[i] = 0x1111111111111111 * n++;
    thread.regs().rsp = stack.value + kStackSize - 1000;
    thread.regs().rflags = 0x202 | 1;
    thread.regs().rip = stack.value;
    before = thread.regs();
    for (size_t i = 160; i < 416; i++) thread.xsave[i] = std::byte(i);  // xmm registers
    thread.xsave[512] = std::byte{3};
    xsave_before = thread.xsave;
    action.handler = 0x4711;
    action.flags = vmm::kSaRestorer;
    action.restorer = 0x4712;
    signal.signal = SIGUSR1;
    ASSERT_TRUE(vmm::build_signal_frame(thread, signal, action, 0xf0));
    frame = GuestAddr(thread.regs().rsp);
    // The handler has run and returned into the restorer.
    for (size_t i = 0; i < sizeof(vmm::Registers) / 8; i++) words[i] = ~UINT64_C(0);
    thread.regs().rsp = frame.value + 8;
    thread.regs().rflags = 0x202;
    thread.regs().fs_base = before.fs_base;
    thread.regs().gs_base = before.gs_base;
    thread.xsave.fill(std::byte{0x77});
  }
  template <class T>
  void poke(size_t offset, T value) {
    ASSERT_TRUE(process.memory().write(frame + offset, value));
  }
  [[nodiscard]] uint64_t fp() {
    RtSigframe f{};
    EXPECT_TRUE(process.memory().read(frame, f));
    return f.uc.mcontext.fpstate;
  }
  static constexpr size_t kContext = offsetof(RtSigframe, uc) + offsetof(vmm::UContext, mcontext);

  vmm::Registers before;
  std::array<std::byte, 4096> xsave_before{};
  vmm::KernelSigaction action;
  vmm::PendingSignal signal;
  GuestAddr frame;
};

TEST_F(SignalReturn, BringsEverythingBack) {
  ASSERT_TRUE(process.signals().sigreturn(thread));
  EXPECT_TRUE(same(thread.regs(), before));
  EXPECT_EQ(thread.signals().blocked.load(), 0xf0U);
  EXPECT_EQ(std::memcmp(thread.xsave.data(), xsave_before.data(), vmm::XsaveLayout::instance().size), 0);
}

TEST_F(SignalReturn, TakesWhatTheHandlerChanged) {
  poke(kContext + offsetof(vmm::SigContext, rip), UINT64_C(0xdead000000000000));  // not canonical: faults later
  poke(offsetof(RtSigframe, uc) + offsetof(vmm::UContext, sigmask), ~UINT64_C(0));
  ASSERT_TRUE(process.memory().write(GuestAddr(fp() + 160 + 16 * 3), UINT32_C(0xabcd)));
  ASSERT_TRUE(process.signals().sigreturn(thread));
  EXPECT_EQ(thread.regs().rip, 0xdead000000000000U);
  EXPECT_EQ(thread.signals().blocked.load(), ~vmm::kUnblockable);
  uint32_t lane = 0;
  std::memcpy(&lane, thread.xsave.data() + 160 + 16 * 3, 4);
  EXPECT_EQ(lane, 0xabcdU);
}

TEST_F(SignalReturn, FlagsAreOnlyTheUsers) {
  poke(kContext + offsetof(vmm::SigContext, rflags), ~UINT64_C(0));
  ASSERT_TRUE(process.signals().sigreturn(thread));
  // CF PF AF ZF SF TF DF OF RF AC, and what was set before: no IOPL, NT, VM, VIF.
  EXPECT_EQ(thread.regs().rflags, 0x202U | 0x50dd5U);
  thread.regs().rsp = frame.value + 8;
  poke(kContext + offsetof(vmm::SigContext, rflags), UINT64_C(0));
  ASSERT_TRUE(process.signals().sigreturn(thread));
  EXPECT_EQ(thread.regs().rflags, 0x202U);  // interrupts stay on
}

TEST_F(SignalReturn, SegmentsAreNotTaken) {
  poke(kContext + offsetof(vmm::SigContext, cs), uint16_t{0x10});
  poke(kContext + offsetof(vmm::SigContext, ss), uint16_t{0x18});
  ASSERT_TRUE(process.signals().sigreturn(thread));
  EXPECT_TRUE(same(thread.regs(), before));
}

TEST_F(SignalReturn, NoFpStateMeansTheInitialOne) {
  poke(kContext + offsetof(vmm::SigContext, fpstate), UINT64_C(0));
  ASSERT_TRUE(process.signals().sigreturn(thread));
  EXPECT_EQ(thread.xsave[0], std::byte{0x7f});
  EXPECT_EQ(thread.xsave[24], std::byte{0x80});
  EXPECT_EQ(thread.xsave[160 + 5], std::byte{0});
}

TEST_F(SignalReturn, WithoutMagicOnlyTheLegacyAreaCounts) {
  if (vmm::XsaveLayout::instance().size <= 576) GTEST_SKIP() << "this CPU has no extended state";
  ASSERT_TRUE(process.memory().write(GuestAddr(fp() + vmm::XsaveLayout::instance().size), UINT32_C(0)));
  ASSERT_TRUE(process.memory().write(GuestAddr(fp() + 600), UINT64_C(0x99)));
  ASSERT_TRUE(process.signals().sigreturn(thread));
  EXPECT_EQ(thread.xsave[600], std::byte{0});
  EXPECT_EQ(thread.xsave[200], std::byte{200});
  EXPECT_EQ(thread.xsave[512], std::byte{3});
}

TEST_F(SignalReturn, BadFramesAreRefusedAndChangeNothing) {
  vmm::Registers const now = thread.regs();
  uint64_t const good_fp = fp();
  auto const expect_bad = [&](char const* what) {
    EXPECT_FALSE(process.signals().sigreturn(thread)) << what;
    EXPECT_TRUE(same(thread.regs(), now)) << what;
  };
  poke(kContext + offsetof(vmm::SigContext, fpstate), good_fp + 8);
  expect_bad("area not aligned");
  for (uint64_t address : {UINT64_C(64), UINT64_C(0xffff800000000000), ~UINT64_C(63), UINT64_C(0x7fffffffe000)}) {
    poke(kContext + offsetof(vmm::SigContext, fpstate), address);
    expect_bad("area outside");
  }
  poke(kContext + offsetof(vmm::SigContext, fpstate), good_fp);
  ASSERT_TRUE(process.memory().write(GuestAddr(good_fp + 24), UINT32_C(0xffff0000)));
  expect_bad("reserved MXCSR bits");
  ASSERT_TRUE(process.memory().write(GuestAddr(good_fp + 24), UINT32_C(0x1f80)));
  if (vmm::XsaveLayout::instance().size > 512) {
    ASSERT_TRUE(process.memory().write(GuestAddr(good_fp + 512), UINT64_C(1) << 62));
    expect_bad("unknown component");
    ASSERT_TRUE(process.memory().write(GuestAddr(good_fp + 512), UINT64_C(3)));
    ASSERT_TRUE(process.memory().write(GuestAddr(good_fp + 520), UINT64_C(1) << 63));
    expect_bad("compacted format");
    ASSERT_TRUE(process.memory().write(GuestAddr(good_fp + 520), UINT64_C(0)));
  }
  thread.refuse_xsave = true;
  expect_bad("state that the CPU refuses");
  thread.refuse_xsave = false;
  for (uint64_t rsp :
       {UINT64_C(0), UINT64_C(8), ~UINT64_C(7), UINT64_C(0xffff800000000000), stack.value + kStackSize}) {
    thread.regs().rsp = rsp;
    EXPECT_FALSE(process.signals().sigreturn(thread)) << std::hex << rsp;
  }
}

// ---- stacks ----

TEST_F(SignalFrame, NeedsAStackThatHoldsIt) {
  vmm::KernelSigaction action{.handler = 0x4711, .flags = vmm::kSaRestorer, .restorer = 1, .mask = 0};
  vmm::PendingSignal signal;
  signal.signal = SIGUSR1;
  auto const refuses = [&](uint64_t rsp) {
    thread.regs().rsp = rsp;
    vmm::Registers const before = thread.regs();
    bool const built = vmm::build_signal_frame(thread, signal, action, 0);
    EXPECT_EQ(built || !same(thread.regs(), before), built);
    return !built;
  };
  EXPECT_TRUE(refuses(0));
  EXPECT_TRUE(refuses(100));
  EXPECT_TRUE(refuses(0xffff800000000000));
  EXPECT_TRUE(refuses(process.map(8192, PROT_READ).value + 8192));
  EXPECT_FALSE(refuses(stack.value + kStackSize));
  action.flags = 0;  // no restorer
  EXPECT_TRUE(refuses(stack.value + kStackSize));
  // An alternate stack too small for the frame.
  action.flags = vmm::kSaRestorer | SA_ONSTACK;
  thread.signals().alt_stack = stack + 4096;
  thread.signals().alt_size = 512;
  thread.signals().alt_flags = 0;
  EXPECT_TRUE(refuses(stack.value + kStackSize));
}

TEST_F(SignalFrame, AlternateStackCallIsTheKernels) {
  vmm::ThreadSignals& s = thread.signals();
  vmm::SignalStack got;
  EXPECT_EQ(vmm::change_alt_stack(s, 0x1000, nullptr, &got), 0);
  EXPECT_EQ(got.flags, SS_DISABLE);
  vmm::SignalStack const next{stack.value, 0, 0, 8192};
  EXPECT_EQ(vmm::change_alt_stack(s, 0x1000, &next, nullptr), 0);
  EXPECT_EQ(vmm::change_alt_stack(s, stack.value + 100, nullptr, &got), 0);
  EXPECT_EQ(got.flags, SS_ONSTACK);
  EXPECT_EQ(got.sp, stack.value);
  EXPECT_EQ(vmm::change_alt_stack(s, stack.value + 100, &next, nullptr), -EPERM);
  vmm::SignalStack const small{stack.value, 0, 0, 2047}, odd{stack.value, 8, 0, 8192};
  EXPECT_EQ(vmm::change_alt_stack(s, 0x1000, &small, nullptr), -ENOMEM);
  EXPECT_EQ(vmm::change_alt_stack(s, 0x1000, &odd, nullptr), -EINVAL);
  // SS_AUTODISARM: off while the handler runs, back with its frame.
  vmm::SignalStack const disarm{stack.value, vmm::kSsAutodisarm, 0, 8192};
  EXPECT_EQ(vmm::change_alt_stack(s, 0x1000, &disarm, nullptr), 0);
  vmm::KernelSigaction const action{
      .handler = 0x4711, .flags = vmm::kSaRestorer | SA_ONSTACK, .restorer = 1, .mask = 0};
  vmm::PendingSignal signal;
  signal.signal = SIGUSR1;
  thread.regs().rsp = stack.value + kStackSize;
  ASSERT_TRUE(vmm::build_signal_frame(thread, signal, action, 0));
  EXPECT_LT(thread.regs().rsp, stack.value + 8192);
  EXPECT_EQ(vmm::change_alt_stack(s, thread.regs().rsp, nullptr, &got), 0);
  EXPECT_EQ(got.flags, SS_DISABLE);
  thread.regs().rsp += 8;
  ASSERT_TRUE(process.signals().sigreturn(thread));
  EXPECT_EQ(s.alt_size, 8192U);
  EXPECT_EQ(s.alt_flags, vmm::kSsAutodisarm);
}

}  // namespace
