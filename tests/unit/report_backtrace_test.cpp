// links: vmsrs_report
// Call chains taken from outside: of optimised code without frame pointers, through signal frames, after a call to
// garbage, at the bottom of a deep recursion; and that damage of stacks, registers and unwind tables ends a chain, in
// bounded time, and never the monitor.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <random>
#include <thread>

#include "runtime/backtrace.hpp"
#include "runtime/modules.hpp"
#include "runtime/symbols.hpp"
#include "tests/unit/report_own_view.hpp"

#define OPTIMISED \
  __attribute__((noinline, noclone, optimize("O2,omit-frame-pointer"), no_sanitize("address", "undefined")))

namespace vmsrs::runtime {

vmm::Registers registers_of(ucontext_t const& context) {
  auto const* g = context.uc_mcontext.gregs;
  auto const at = [g](int i) { return static_cast<uint64_t>(g[i]); };
  vmm::Registers r;
  r.rax = at(REG_RAX), r.rbx = at(REG_RBX), r.rcx = at(REG_RCX), r.rdx = at(REG_RDX);
  r.rsi = at(REG_RSI), r.rdi = at(REG_RDI), r.rsp = at(REG_RSP), r.rbp = at(REG_RBP);
  r.r8 = at(REG_R8), r.r9 = at(REG_R9), r.r10 = at(REG_R10), r.r11 = at(REG_R11);
  r.r12 = at(REG_R12), r.r13 = at(REG_R13), r.r14 = at(REG_R14), r.r15 = at(REG_R15);
  r.rip = at(REG_RIP);
  return r;
}

// The chain outer → middle → inner, with something on each stack frame and after each call (no tail calls).
volatile int sink;
using Visit = void (*)(void* arg);

OPTIMISED int chain_inner(Visit visit, void* arg) {
  volatile char buffer[100] = {};
  visit(arg);
  return sink + buffer[5];
}
OPTIMISED int chain_middle(Visit visit, void* arg, int n) {
  volatile char buffer[5000] = {};
  int const got = n > 1 ? chain_middle(visit, arg, n - 1) : chain_inner(visit, arg);
  return got + sink + buffer[7];
}
OPTIMISED int chain_outer(Visit visit, void* arg, int n) {
  return chain_middle(visit, arg, n) + sink;
}

struct Taken {
  OwnView view;
  ucontext_t context{};
  std::vector<Frame> frames;
  size_t max_frames = kMaxFrames;
};

void take_here(void* arg) {
  auto& taken = *static_cast<Taken*>(arg);
  getcontext(&taken.context);
  taken.frames = backtrace(taken.view, registers_of(taken.context), taken.max_frames);
}

std::vector<std::string> functions(std::vector<Frame> frames) {
  static Symbols symbols;
  symbols.name(frames);
  std::vector<std::string> names;
  for (auto const& frame : frames) names.push_back(frame.function.substr(0, frame.function.find('(')));
  return names;
}

bool contains_in_order(std::vector<std::string> const& names, std::vector<std::string> const& wanted) {
  size_t next = 0;
  for (auto const& name : names) {
    if (next < wanted.size() && name == "vmsrs::runtime::" + wanted[next]) ++next;
  }
  return next == wanted.size();
}

TEST(Backtrace, NamesEveryFrameOfOptimisedCodeWithoutFramePointers) {
  Taken taken;
  chain_outer(take_here, &taken, 2);
  auto const names = functions(taken.frames);
  ASSERT_GE(names.size(), 6U);
  std::vector<std::string> const first(names.begin(), names.begin() + 5);
  EXPECT_EQ(first, (std::vector<std::string>{"vmsrs::runtime::take_here", "vmsrs::runtime::chain_inner",
                                             "vmsrs::runtime::chain_middle", "vmsrs::runtime::chain_middle",
                                             "vmsrs::runtime::chain_outer"}));
  EXPECT_NE(std::ranges::find(names, "main"), names.end()) << "the whole way out";
  for (auto const& frame : taken.frames) EXPECT_FALSE(frame.guessed);
  EXPECT_FALSE(taken.frames[0].is_return);
  EXPECT_TRUE(taken.frames[1].is_return);
}

TEST(Backtrace, DeepRecursionIsLimited) {
  Taken taken;
  taken.max_frames = 10;
  chain_outer(take_here, &taken, 200);
  auto const names = functions(taken.frames);
  ASSERT_EQ(names.size(), 10U);
  EXPECT_EQ(names[9], "vmsrs::runtime::chain_middle");
  EXPECT_TRUE(backtrace(taken.view, registers_of(taken.context), 0).empty());
}

// A real fault, seen from its handler: once with the registers of the fault, once through the signal frame. Unwinding
// allocates, which a handler may not: it waits while another thread unwinds its stack.
struct Fault {
  OwnView view;
  ucontext_t* at = nullptr;  // the registers of the fault
  ucontext_t handler{};
  std::atomic<bool> happened{false}, unwound{false};
  std::vector<Frame> frames, through_signal;
};
Fault* fault_now;
sigjmp_buf after_fault;

void on_fault(int, siginfo_t*, void* context) {
  fault_now->at = static_cast<ucontext_t*>(context);
  getcontext(&fault_now->handler);
  fault_now->happened = true;
  fault_now->happened.notify_one();
  fault_now->unwound.wait(false);
  siglongjmp(after_fault, 1);
}

void take_fault(Fault& fault, void (*run)()) {
  fault_now = &fault;
  std::thread unwinder([&fault] {
    fault.happened.wait(false);
    fault.frames = backtrace(fault.view, registers_of(*fault.at));
    fault.through_signal = backtrace(fault.view, registers_of(fault.handler));
    fault.unwound = true;
    fault.unwound.notify_one();
  });
  struct sigaction action {};
  struct sigaction old {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, &old);
  if (sigsetjmp(after_fault, 1) == 0) run();
  sigaction(SIGSEGV, &old, nullptr);
  unwinder.join();
}

int volatile* volatile unmapped = reinterpret_cast<int volatile*>(8);
void fault_by_load(void*) {
  sink = *unmapped;
}
void (*volatile nowhere)() = reinterpret_cast<void (*)()>(0x10);
OPTIMISED void fault_by_call(void*) {
  volatile char buffer[40] = {};
  nowhere();
  sink = buffer[3];
}

TEST(Backtrace, OfAFaultAndThroughItsSignalFrame) {
  Fault fault;
  take_fault(fault, [] { chain_outer(fault_by_load, nullptr, 1); });
  std::vector<std::string> const chain{"fault_by_load", "chain_inner", "chain_middle", "chain_outer"};
  EXPECT_TRUE(contains_in_order(functions(fault.frames), chain));
  EXPECT_EQ(functions(fault.frames)[0], "vmsrs::runtime::fault_by_load");
  std::vector<std::string> const longer{"on_fault", "fault_by_load", "chain_inner", "chain_middle", "chain_outer"};
  EXPECT_TRUE(contains_in_order(functions(fault.through_signal), longer))
      << testing::PrintToString(functions(fault.through_signal));
}

TEST(Backtrace, AfterACallToGarbageTheCallerIsNext) {
  Fault fault;
  take_fault(fault, [] { chain_outer(fault_by_call, nullptr, 1); });
  ASSERT_GE(fault.frames.size(), 4U);
  EXPECT_EQ(fault.frames[0].ip, 0x10U);
  EXPECT_EQ(fault.frames[0].module, "");
  auto const names = functions(fault.frames);
  EXPECT_EQ(names[1], "vmsrs::runtime::fault_by_call");
  EXPECT_TRUE(contains_in_order(names, {"fault_by_call", "chain_inner", "chain_middle", "chain_outer"}));
}

TEST(Backtrace, FromACopyOfTheStackAfterTheStackIsGone) {
  struct State {
    Taken taken;
    std::unique_ptr<StackCopy> copy;
  } state;
  chain_outer(
      [](void* arg) {
        auto& s = *static_cast<State*>(arg);
        getcontext(&s.taken.context);
        s.copy = std::make_unique<StackCopy>(s.taken.view, registers_of(s.taken.context).rsp, 32768);
      },
      &state, 1);
  EXPECT_GT(state.copy->copied(), 5000U);
  chain_outer([](void*) { sink = 0; }, nullptr, 3);  // writes over those frames
  auto const names = functions(backtrace(*state.copy, registers_of(state.taken.context)));
  EXPECT_TRUE(contains_in_order(names, {"chain_inner", "chain_middle", "chain_outer"}))
      << testing::PrintToString(names);
}

// Code without any module: three calls and their return addresses, on memory of the test's own.
class BareCode {
 public:
  BareCode() {
    code_ = static_cast<uint8_t*>(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memset(code_, 0x90, 4096);
    code_[95] = 0xe8;                      // call rel32: returns to 100
    code_[198] = 0xff, code_[199] = 0xd0;  // call *%rax: returns to 200
    code_[293] = 0xff, code_[294] = 0x94;  // call *disp32(%rsp,…): returns to 300
    code_[295] = 0x24;
    std::memset(code_ + 296, 0, 4);
  }
  ~BareCode() { munmap(code_, 4096); }
  BareCode(BareCode const&) = delete;
  BareCode& operator=(BareCode const&) = delete;
  [[nodiscard]] uint64_t at(uint64_t offset) const { return reinterpret_cast<uint64_t>(code_) + offset; }

 private:
  uint8_t* code_;
};

std::vector<uint64_t> ips(std::vector<Frame> const& frames) {
  std::vector<uint64_t> out;
  for (auto const& frame : frames) out.push_back(frame.ip);
  return out;
}

TEST(Backtrace, WithoutTablesTheStackIsScannedForReturnsFromCalls) {
  BareCode const code;
  OwnView const view;
  std::array<uint64_t, 64> stack{};
  stack[3] = code.at(100);
  stack[5] = code.at(150);  // no call before it
  stack[9] = code.at(200);
  stack[11] = code.at(300);
  vmm::Registers r;
  r.rip = code.at(50);
  r.rsp = reinterpret_cast<uint64_t>(stack.data());
  auto const frames = backtrace(view, r, 4);
  EXPECT_EQ(ips(frames), (std::vector{code.at(50), code.at(100), code.at(200), code.at(300)}));
  EXPECT_TRUE(frames[1].guessed);
}

TEST(Backtrace, ACyclicFramePointerChainEnds) {
  BareCode const code;
  OwnView const view;
  std::array<uint64_t, 4096> stack{};
  stack[10] = reinterpret_cast<uint64_t>(&stack[10]);  // the frame pointer points to itself
  stack[11] = code.at(100);
  vmm::Registers r;
  r.rip = code.at(50);
  r.rsp = reinterpret_cast<uint64_t>(stack.data());
  r.rbp = reinterpret_cast<uint64_t>(&stack[10]);
  auto const frames = backtrace(view, r, 1000);
  EXPECT_EQ(ips(frames), (std::vector{code.at(50), code.at(100)}));
}

TEST(Backtrace, GarbageRegistersAreOneFrame) {
  OwnView const view;
  for (uint64_t const bad : {uint64_t{0}, uint64_t{1}, uint64_t{7}, UINT64_MAX, UINT64_MAX - 7, uint64_t{1} << 63}) {
    vmm::Registers r;
    r.rip = r.rsp = r.rbp = bad;
    EXPECT_EQ(ips(backtrace(view, r)), std::vector{bad});
  }
}

// A real chain whose stack, registers or tables are then damaged in what the unwinder reads.
void damage(void (*harm)(OwnView&, vmm::Registers&, std::mt19937_64&), int rounds) {
  struct State {
    void (*harm)(OwnView&, vmm::Registers&, std::mt19937_64&);
    int rounds;
  } state{harm, rounds};
  chain_outer(
      [](void* arg) {
        auto& s = *static_cast<State*>(arg);
        ucontext_t context;
        getcontext(&context);
        std::mt19937_64 random(1);
        OwnView view;
        auto const start = std::chrono::steady_clock::now();
        for (int i = 0; i < s.rounds; ++i) {
          view.overlay.clear();
          vmm::Registers r = registers_of(context);
          s.harm(view, r, random);
          auto const frames = backtrace(view, r);
          ASSERT_GE(frames.size(), 1U);
          ASSERT_LE(frames.size(), kMaxFrames);
          ASSERT_EQ(frames[0].ip, r.rip);
        }
        EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(120));
      },
      &state, 2);
}

TEST(Backtrace, DamagedStacksEnd) {
  damage(
      [](OwnView& view, vmm::Registers& r, std::mt19937_64& random) {
        for (uint64_t at = r.rsp; at < r.rsp + 2048; ++at) {
          if (random() % 16 == 0) view.overlay[at] = static_cast<uint8_t>(random());
        }
      },
      300);
}

TEST(Backtrace, RandomRegistersEnd) {
  damage(
      [](OwnView&, vmm::Registers& r, std::mt19937_64& random) {
        r.rsp += random() % 64 * 8;
        r.rbp = random() % 2 == 0 ? r.rsp + random() % 512 * 8 : random();
        r.rip += random() % 100'000;
        r.rbx = random();
      },
      300);
}

TEST(Backtrace, DamagedUnwindTablesEnd) {
  damage(
      [](OwnView& view, vmm::Registers& r, std::mt19937_64& random) {
        Modules modules(view);
        Module const* const module = modules.find(r.rip);
        ASSERT_NE(module, nullptr);
        ASSERT_NE(module->eh_frame_hdr, 0U);
        // The header and the table; .eh_frame follows it at once.
        uint64_t const frames = module->eh_frame_hdr + module->eh_frame_hdr_size;
        for (int i = 0; i < 4; ++i) view.overlay[module->eh_frame_hdr + random() % 64] = static_cast<uint8_t>(random());
        if (random() % 2 == 0) view.overlay.clear();
        for (int i = 0; i < 20'000; ++i) view.overlay[frames + random() % 100'000] = static_cast<uint8_t>(random());
      },
      100);
}

TEST(Backtrace, LeavesNothingBehind) {
  Taken taken;
  chain_outer(take_here, &taken, 1);
  auto const used = [] { return mallinfo2().uordblks; };
  for (int i = 0; i < 20; ++i) (void)backtrace(taken.view, registers_of(taken.context));
  size_t const before = used();
  for (int i = 0; i < 500; ++i) (void)backtrace(taken.view, registers_of(taken.context));
  EXPECT_LT(used(), before + 65536);
}

}  // namespace vmsrs::runtime
