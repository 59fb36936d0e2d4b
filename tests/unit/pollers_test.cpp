// links: vmm
// Exitless calls on the host alone: the stubs' real code, run natively, against the real pollers. What leaves the VM
// there (out) is a SIGSEGV here; its handler goes on behind the call, as the monitor would.
#include "vmm/pollers.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/times.h>
#include <ucontext.h>

#include <csignal>
#include <cstring>

#include "vmm/call_sites.hpp"

namespace vmm {
namespace {

using std::chrono::milliseconds;

struct Left {  // the stub's way out
  uint64_t rip = 0, r11 = 0;
  bool out = false;
};
thread_local Left t_left;

void on_out(int signal, siginfo_t*, void* raw) {
  auto* const c = static_cast<ucontext_t*>(raw);
  auto* const code = reinterpret_cast<uint8_t const*>(c->uc_mcontext.gregs[REG_RIP]);
  if (code[0] != 0xe6) {  // a real crash
    std::signal(signal, SIG_DFL);
    return;
  }
  t_left = {static_cast<uint64_t>(c->uc_mcontext.gregs[REG_RIP]), static_cast<uint64_t>(c->uc_mcontext.gregs[REG_R11]),
            true};
  c->uc_mcontext.gregs[REG_RIP] = c->uc_mcontext.gregs[REG_RCX];
}

// Seats with stubs and mailboxes as SystemPages lays them out.
class Machine {
 public:
  Machine() {
    void* const p =
        mmap(nullptr, 2 * MB_DISTANCE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(p, MAP_FAILED);
    base_ = static_cast<std::byte*>(p);
    struct sigaction action {};
    action.sa_sigaction = on_out;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
  }
  ~Machine() { munmap(base_, 2 * MB_DISTANCE); }
  Machine(Machine const&) = delete;
  Machine& operator=(Machine const&) = delete;

  [[nodiscard]] std::byte* stub(unsigned seat) const { return base_ + size_t{seat} * MB_STRIDE; }
  [[nodiscard]] Mailbox& mailbox(unsigned seat) const { return *reinterpret_cast<Mailbox*>(stub(seat) + MB_DISTANCE); }

 private:
  std::byte* base_ = nullptr;
};

PostableCalls some_calls() {
  PostableCalls calls;
  calls.set(7);
  calls.set(STUB_HYPERCALLS + 3);
  return calls;
}

// The pollers of a machine's seats.
struct Monitor {
  explicit Monitor(int count) : pollers(count, 64, stats) {}

  Machine machine;
  Stats stats;
  Pollers pollers;  // stops before the mailboxes go
};

// A guest thread's host thread: makes one call through its seat's stub, and settles it as GuestThread does.
class Guest {
 public:
  Guest(Monitor& monitor, unsigned seat, CallServer& server, bool direct = false)
      : stub_(monitor.machine.stub(seat)),
        pollers_(monitor.pollers),
        seat_(pollers_.seat(seat)),
        server_(server),
        direct_(direct) {
    write_stub(stub_, false, some_calls());
    seat_.bind(monitor.machine.mailbox(seat));
  }

  struct Made {
    PostFate fate = PostFate::kNotMade;
    int64_t result = 0;
    bool exited = false;
  };
  Made call(uint64_t nr, uint64_t first = 0, uint64_t last = 0) {
    pollers_.enter(seat_, server_);
    t_left.out = false;
    uint64_t rax = nr;
    std::byte* const entry = stub_ + (direct_ ? STUB_DIRECT : 0);
    register uint64_t r9 asm("r9") = last;
    register std::byte* target asm("rbx") = entry;
    asm volatile(
        "lea 1f(%%rip), %%rcx\n"
        "mov $0x202, %%r11d\n"
        "jmp *%%rbx\n"
        "1:\n"
        : "+a"(rax)
        : "D"(first), "r"(r9), "r"(target)
        : "rcx", "r11", "memory", "cc");
    pollers_.leave(seat_);
    if (!t_left.out) return {PostFate::kAnswered, static_cast<int64_t>(rax), false};
    StubPlace const place = stub_place(t_left.rip - reinterpret_cast<uint64_t>(stub_));
    PostFate const fate = pollers_.settle(seat_, place, t_left.r11);
    if (fate == PostFate::kAnswered) return {fate, seat_.result(), true};
    if (place <= StubPlace::kNotPosted) pollers_.note_exit(seat_);
    return {fate, 0, true};
  }
  // Until the pollers are awake and a call was answered.
  bool warm_up(uint64_t nr) {
    for (int i = 0; i < 100'000; ++i) {
      if (Made const made = call(nr); made.fate == PostFate::kAnswered && !made.exited) return true;
    }
    return false;
  }

 private:
  std::byte* stub_;
  Pollers& pollers_;
  Seat& seat_;
  CallServer& server_;
  bool direct_;
};

class Adder final : public CallServer {
 public:
  Answer serve_posted(SyscallArgs const& call, uint64_t) override {
    served_.fetch_add(1);
    return {Answer::kDone, static_cast<int64_t>(call.a[0] + call.a[5])};
  }
  std::atomic<int> served_{0};
};

TEST(Pollers, AnswerWithoutAnExit) {
  for (bool const direct : {false, true}) {
    Monitor monitor(1);
    Adder adder;
    Guest guest(monitor, 5, adder, direct);
    ASSERT_TRUE(guest.warm_up(7));
    int answered = 0;  // a poller without a processor answers nobody: it is waited for
    auto const until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (uint64_t i = 0; answered <= 1000 && std::chrono::steady_clock::now() < until; ++i) {
      auto const made = guest.call(i % 2 != 0 ? 7 : 0x535203, i, 1000);
      if (made.fate != PostFate::kAnswered) continue;
      EXPECT_EQ(made.result, static_cast<int64_t>(i + 1000));
      answered += made.exited ? 0 : 1;
    }
    EXPECT_GT(answered, 1000) << (direct ? "direct" : "by syscall");
    EXPECT_EQ(monitor.stats.mailbox_damaged.load(), 0U);
  }
}

TEST(Pollers, CallsThatAreNotListedLeave) {
  Monitor monitor(1);
  Adder adder;
  Guest guest(monitor, 0, adder);
  ASSERT_TRUE(guest.warm_up(7));
  adder.served_ = 0;
  for (uint64_t const nr :
       {uint64_t{8}, uint64_t{511}, uint64_t{512}, uint64_t{0x535204}, uint64_t{0x535300}, UINT64_MAX}) {
    auto const made = guest.call(nr);
    EXPECT_EQ(made.fate, PostFate::kNotMade) << nr;
    EXPECT_TRUE(made.exited) << nr;
  }
  EXPECT_EQ(adder.served_.load(), 0);
}

// Never more than once, never not at all, whatever stops the guest.
TEST(Pollers, AnAnswerThatTheGuestMayNotSeeIsTakenOutside) {
  class Leaver final : public CallServer {
   public:
    Answer serve_posted(SyscallArgs const& call, uint64_t) override {
      ++served;
      return {Answer::kDoneLeave, static_cast<int64_t>(call.a[0])};
    }
    int served = 0;
  } leaver;
  Monitor monitor(1);
  Guest guest(monitor, 0, leaver);
  int taken = 0;
  auto const until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (uint64_t i = 0; taken <= 100 && std::chrono::steady_clock::now() < until; ++i) {
    int const before = leaver.served;
    auto const made = guest.call(7, i);
    ASSERT_TRUE(made.exited);
    EXPECT_EQ(leaver.served - before, made.fate == PostFate::kAnswered ? 1 : 0);
    if (made.fate != PostFate::kAnswered) continue;
    EXPECT_EQ(made.result, static_cast<int64_t>(i));
    ++taken;
  }
  EXPECT_GT(taken, 100);
}

TEST(Pollers, ADamagedMailboxIsFoundAndTheCallIsMadeByExit) {
  Monitor monitor(1);
  Adder adder;
  Guest guest(monitor, 0, adder);
  ASSERT_TRUE(guest.warm_up(7));
  std::atomic<bool> stop{false};
  std::thread vandal([&] {
    Mailbox& box = monitor.machine.mailbox(0);
    for (uint64_t n = 1; !stop; ++n) {
      box.words[n % 7].store(n * 0x9e3779b97f4a7c15ULL, std::memory_order_relaxed);
      if (n % 64 == 0) box.posted.fetch_add(1 + n % 3, std::memory_order_relaxed);
      if (n % 97 == 0) box.result.store(n, std::memory_order_relaxed);
      for (int i = 0; i < 100; ++i) __builtin_ia32_pause();
    }
  });
  auto const until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  uint64_t calls = 0;
  int answered = 0;
  adder.served_ = 0;
  for (; monitor.stats.mailbox_damaged.load() < 20 && std::chrono::steady_clock::now() < until; ++calls) {
    auto const made = guest.call(7, calls, 5);
    answered += made.fate == PostFate::kAnswered ? 1 : 0;
  }
  stop = true;
  vandal.join();
  EXPECT_GE(monitor.stats.mailbox_damaged.load(), 20U) << calls << " calls";
  EXPECT_LE(answered, adder.served_.load()) << "an answer that nobody gave";
  // In order again afterwards.
  ASSERT_TRUE(guest.warm_up(7));
  int right = 0;
  auto const in_order = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  for (uint64_t i = 0; right < 100 && std::chrono::steady_clock::now() < in_order; ++i) {
    auto const made = guest.call(7, i, 22);
    if (made.fate != PostFate::kAnswered) continue;
    EXPECT_EQ(made.result, static_cast<int64_t>(i + 22));
    ++right;
  }
  EXPECT_GT(right, 0);
}

TEST(Pollers, OneThatIsStuckIsReplaced) {
  class Stuck final : public CallServer {
   public:
    Answer serve_posted(SyscallArgs const&, uint64_t) override {
      while (!go) std::this_thread::sleep_for(milliseconds(1));
      return {Answer::kDone, 1};
    }
    std::atomic<bool> go{false};
  } stuck;
  Monitor monitor(1);
  Adder adder;
  Guest held(monitor, 0, stuck);
  Guest healthy(monitor, 1, adder);
  ASSERT_TRUE(healthy.warm_up(7));
  std::thread other([&] {
    while (held.call(7).fate != PostFate::kAnswered) {
    }
  });
  auto const until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (monitor.stats.pollers_replaced.load() == 0 && std::chrono::steady_clock::now() < until) healthy.call(7, 1, 1);
  EXPECT_GE(monitor.stats.pollers_replaced.load(), 1U);
  EXPECT_TRUE(healthy.warm_up(7)) << "the new one serves";
  stuck.go = true;
  other.join();
}

TEST(Pollers, AnIdleGuestCostsNothing) {
  Monitor monitor(Pollers::kAuto);
  Adder adder;
  Guest guest(monitor, 0, adder);
  guest.warm_up(7);
  for (int i = 0; i < 2000 && monitor.pollers.active(); ++i) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_FALSE(monitor.pollers.active());
  tms before{}, after{};
  times(&before);
  std::this_thread::sleep_for(milliseconds(300));
  times(&after);
  EXPECT_LE(after.tms_utime + after.tms_stime - before.tms_utime - before.tms_stime, 3);  // of 30 ticks
}

TEST(Pollers, NoneMeansNone) {
  Monitor monitor(0);
  Adder adder;
  Guest guest(monitor, 0, adder);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(guest.call(7).fate, PostFate::kNotMade);
  EXPECT_EQ(monitor.stats.pollers_started.load(), 0U);
  EXPECT_EQ(adder.served_.load(), 0);
}

TEST(CallSites, BoundariesAreFoundByFallingIntoStep) {
  // sub $0x28,%rsp; mov %rdx,0x18(%rsp); mov %rsi,0x10(%rsp); mov %edi,8(%rsp); mov %eax,%r8d; mov 8(%rsp),%edi;
  // nops; mov $0x2d,%eax; syscall
  std::vector<uint8_t> code;
  for (int i = 0; i < 3; ++i) {
    for (int const b : {0x48, 0x83, 0xec, 0x28, 0x48, 0x89, 0x54, 0x24, 0x18, 0x48, 0x89, 0x74, 0x24,
                        0x10, 0x89, 0x7c, 0x24, 0x08, 0x41, 0x89, 0xc0, 0x8b, 0x7c, 0x24, 0x08}) {
      code.push_back(static_cast<uint8_t>(b));
    }
  }
  size_t const at = code.size();
  for (int const b : {0xb8, 0x2d, 0, 0, 0}) code.push_back(static_cast<uint8_t>(b));
  size_t const syscall = code.size();
  code.insert(code.end(), {0x0f, 0x05});
  EXPECT_TRUE(starts_instruction(code, at, syscall));
  // A prefix in front makes it another instruction: mov $0x2d,%r8d.
  code[at - 1] = 0x41;
  code[at - 4] = 0x90, code[at - 3] = 0x90, code[at - 2] = 0x90;
  EXPECT_FALSE(starts_instruction(code, at, syscall));
  EXPECT_TRUE(starts_instruction(code, at - 1, syscall));
}

}  // namespace
}  // namespace vmm
