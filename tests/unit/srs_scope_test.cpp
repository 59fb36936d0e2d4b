// links: srs_hosted
// Scopes, the log path and landing, against a host made of ordinary memory.
#include <fenv.h>
#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <srs/srs.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/srs_fake_host.hpp"

namespace {

[[gnu::noinline]] void crash() {
  auto* volatile nowhere = reinterpret_cast<int*>(16);
  *nowhere = 1;
}
uint64_t seen(srs_record_kind kind) {
  fake::drain(fake::my_slot());
  return fake::log_of(fake::my_slot()).kinds[kind];
}
uint64_t word = 0;

}  // namespace

TEST(SrsScope, IsActive) {
  EXPECT_EQ(srs_active(), 1);
  EXPECT_EQ(fake::host().calls[SRS_HC_ATTACH - SRS_HC_BASE], 1u);
}

TEST(SrsScope, CommitKeepsAndFaultUndoes) {
  word = 1;
  EXPECT_EQ(srs::request([] { srs_store64(&word, 2); }), SRS_OK);
  EXPECT_EQ(word, 2u);
  EXPECT_EQ(srs::request([] {
              srs_store64(&word, 3);
              srs_store64(&word, 4);
              crash();
            }),
            SRS_FAULTED);
  EXPECT_EQ(word, 2u);
  EXPECT_EQ(fake::my_slot()->depth, 0u);
  EXPECT_EQ(srs_owner_number(fake::my_slot()->owner), 0u);
  EXPECT_EQ(fake::my_slot()->critical, 0u);
  EXPECT_EQ(fake::log_of(fake::my_slot()).bad, 0u);
}

TEST(SrsScope, LastFaultTellsKindAndUser) {
  EXPECT_EQ(srs::request([] { crash(); }, {.user = 77}), SRS_FAULTED);
  srs_fault_info info;
  ASSERT_EQ(srs_last_fault(&info), 1);
  EXPECT_EQ(info.kind, static_cast<uint32_t>(SRS_FAULT_LOAD));
  EXPECT_EQ(info.user, 77u);
}

TEST(SrsScope, RepeatStoreLogsNothing) {
  srs::request([] {
    uint64_t const before = seen(SRS_REC_STORE);
    for (uint64_t i = 0; i < 1000; ++i) srs_store64(&word, i);
    EXPECT_EQ(seen(SRS_REC_STORE), before + 1);
    srs_store8(&word, 1);
    EXPECT_EQ(seen(SRS_REC_STORE), before + 1) << "its bytes are logged already";
  });
  srs::request([] {
    uint64_t const before = seen(SRS_REC_STORE);
    srs_store8(&word, 1);
    srs_store8(reinterpret_cast<char*>(&word) + 1, 1);
    srs_store8(&word, 2);
    EXPECT_EQ(seen(SRS_REC_STORE), before + 2) << "one for each byte";
  });
}

TEST(SrsScope, EverySizeAndAlignmentIsUndone) {
  alignas(8) unsigned char memory[32];
  for (unsigned at = 0; at < 16; ++at) {
    for (unsigned size : {1, 2, 4, 8}) {
      for (unsigned i = 0; i < sizeof memory; ++i) memory[i] = static_cast<unsigned char>(i);
      EXPECT_EQ(srs::request([&] {
                  if (size == 1) srs_store8(memory + at, 0xaa);
                  if (size == 2) srs_store16(memory + at, 0xaabb);
                  if (size == 4) srs_store32(memory + at, 0xaabbccdd);
                  if (size == 8) srs_store64(memory + at, 0xf1f2f3f4f5f6f7f8);
                  for (unsigned i = 0; i < sizeof memory; ++i) {
                    bool const inside = i >= at && i < at + size;
                    if (inside == (memory[i] == i)) abort();
                  }
                  crash();
                }),
                SRS_FAULTED);
      for (unsigned i = 0; i < sizeof memory; ++i) ASSERT_EQ(memory[i], i) << "size " << size << " at " << at;
    }
  }
}

TEST(SrsScope, CopiesAndFillsAreUndoneToTheByte) {
  std::vector<unsigned char> memory(300);
  for (size_t n : {0u, 1u, 7u, 8u, 9u, 63u, 200u}) {
    for (size_t at = 0; at < 9; ++at) {
      for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<unsigned char>(i * 7);
      std::vector<unsigned char> const before = memory;
      std::vector<unsigned char> expected = memory;
      memmove(expected.data() + at + 3, expected.data() + at, n);
      memmove(expected.data() + at, expected.data() + at + 5, n);
      memset(expected.data() + at + 40, 0x5a, n);
      EXPECT_EQ(srs::request([&] {
                  srs_memmove(memory.data() + at + 3, memory.data() + at, n);
                  srs_memmove(memory.data() + at, memory.data() + at + 5, n);
                  srs_memset(memory.data() + at + 40, 0x5a, n);
                  if (memory != expected) abort();
                  crash();
                }),
                SRS_FAULTED);
      ASSERT_EQ(memory, before) << n << " bytes at " << at;
    }
  }
}

TEST(SrsScope, MoreRecordsThanTheRingHolds) {
  std::vector<uint64_t> memory(5 * fake::kRing, 7);
  EXPECT_EQ(srs::request([&] {
              for (uint64_t& w : memory) srs_store64(&w, 9);
              crash();
            }),
            SRS_FAULTED);
  EXPECT_EQ(memory, std::vector<uint64_t>(memory.size(), 7));
  EXPECT_GE(fake::host().calls[SRS_HC_DRAIN - SRS_HC_BASE], 4u);
}

TEST(SrsScope, AtomicsAreUndone) {
  uint64_t n = 10;
  uint32_t half[2] = {UINT32_MAX, 5};
  EXPECT_EQ(srs::request([&] {
              if (srs_fetch_add64(&n, 5) != 10) abort();
              srs_store64(&n, 100);  // a store over the scope's own delta
              if (srs_exchange64(&n, 3) != 100) abort();
              if (srs_cas64(&n, 4, 5) != 3) abort();
              if (srs_cas64(&n, 3, 6) != 3 || n != 6) abort();
              if (srs_fetch_add32(&half[0], 3) != UINT32_MAX || half[0] != 2) abort();
              if (srs_exchange32(&half[1], 9) != 5 || half[1] != 9) abort();
              crash();
            }),
            SRS_FAULTED);
  EXPECT_EQ(n, 10u);
  EXPECT_EQ(half[0], UINT32_MAX);
  EXPECT_EQ(half[1], 5u);
}

TEST(SrsScope, DeltasOfOthersOutliveAnAbort) {
  srs::shared<int> stock = 10;
  EXPECT_EQ(srs::request([&] {
              stock -= 1;
              std::thread([&] { srs::request([&] { stock -= 1; }); }).join();
              crash();
            }),
            SRS_FAULTED);
  EXPECT_EQ(stock, 9);
}

TEST(SrsScope, AtomicsOfManyThreadsAddUp) {
  srs::atomic<uint64_t> sum = 0;
  srs::atomic<uint32_t> turns = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 2000; ++k) {
        srs::request([&] {
          sum += 3;
          uint32_t was = turns;
          while (!turns.compare_exchange_weak(was, was + 1)) {
          }
        });
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(sum, 24000u);
  EXPECT_EQ(turns, 8000u);
}

TEST(SrsScope, NestsToTheLimit) {
  static std::vector<uint64_t> values;
  values.assign(SRS_MAX_DEPTH, 0);
  struct Recursion {
    static void run(unsigned depth) {
      if (depth == SRS_MAX_DEPTH) {
        EXPECT_EQ(srs::request([] {}), SRS_REFUSED);
        EXPECT_EQ(errno, E2BIG);
        return;
      }
      EXPECT_EQ(srs::request([=] {
                  srs_store64(&values[depth], depth + 1);
                  run(depth + 1);
                }),
                SRS_OK);
    }
  };
  Recursion::run(0);
  for (unsigned i = 0; i < SRS_MAX_DEPTH; ++i) EXPECT_EQ(values[i], i + 1);
}

TEST(SrsScope, NestedFaultUndoesTheInnerOnly) {
  uint64_t a = 1;
  uint64_t b = 1;
  EXPECT_EQ(srs::request([&] {
              srs_store64(&a, 2);
              EXPECT_EQ(srs::request([&] {
                          srs_store64(&a, 3);
                          srs_store64(&b, 3);
                          crash();
                        }),
                        SRS_FAULTED);
              EXPECT_EQ(a, 2u);
              EXPECT_EQ(b, 1u);
              srs_store64(&b, 4);
            }),
            SRS_OK);
  EXPECT_EQ(a, 2u);
  EXPECT_EQ(b, 4u);
}

TEST(SrsScope, OuterAbortTakesTheCommittedInnerAlong) {
  uint64_t a = 1;
  EXPECT_EQ(srs::request([&] {
              EXPECT_EQ(srs::request([&] { srs_store64(&a, 3); }), SRS_OK);
              crash();
            }),
            SRS_FAULTED);
  EXPECT_EQ(a, 1u);
}

TEST(SrsScope, AbortOfTheOuterLandsOutOfTheInner) {
  uint64_t a = 1;
  EXPECT_EQ(srs::request([&] {
              srs_store64(&a, 2);
              (void)srs::request([&] {
                srs_store64(&a, 3);
                fake::abort_index = 0;
                crash();
              });
              abort();
            }),
            SRS_FAULTED);
  EXPECT_EQ(a, 1u);
  EXPECT_EQ(fake::my_slot()->depth, 0u);
}

TEST(SrsScope, StackOverflowLands) {
  struct Recursion {
    [[gnu::noinline]] static int run(int n) {
      char volatile frame[512];
      frame[0] = static_cast<char>(n);
      return n < 1 << 30 ? run(n + 1) + frame[0] : 0;
    }
  };
  for (size_t size : {size_t{0}, size_t{16} << 10, size_t{1} << 20}) {
    EXPECT_EQ(srs::request([] { EXPECT_NE(Recursion::run(0), 0); }, {.stack_size = size}), SRS_FAULTED);
    srs_fault_info info;
    ASSERT_EQ(srs_last_fault(&info), 1);
    EXPECT_EQ(info.kind, static_cast<uint32_t>(SRS_FAULT_STACK));
  }
}

TEST(SrsScope, OptionsAreChecked) {
  int calls = 0;
  auto const count = [&] { ++calls; };
  EXPECT_EQ(srs::request(count, {.stack_size = 4096}), SRS_REFUSED);
  EXPECT_EQ(srs::request(count, {.stack_size = size_t{1} << 40}), SRS_REFUSED);
  EXPECT_EQ(srs::request(count, {.stack_size = SIZE_MAX}), SRS_REFUSED);
  EXPECT_EQ(srs::request(count, {.policy = 9}), SRS_REFUSED);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(srs::request(
                [&] {
                  srs_scope_info const& info = fake::my_slot()->scopes[0];
                  EXPECT_EQ(info.isolation, static_cast<uint32_t>(SRS_TRACK));
                  EXPECT_EQ(info.policy, static_cast<uint32_t>(SRS_RUN));
                  EXPECT_EQ(info.user, 5u);
                  EXPECT_EQ(info.flags, SRS_SCOPE_COMMIT_ON_SEND);
                  EXPECT_GT(info.deadline_ns, 0u);
                },
                {.isolation = SRS_TRACK, .policy = SRS_RUN, .deadline_ms = 1000, .user = 5, .commit_on_send = true}),
            SRS_OK);
}

TEST(SrsScope, RegistersAndFloatingPointModesComeBack) {
  unsigned const mxcsr = _mm_getcsr();
  int const rounding = fegetround();
  uint64_t a = 11, b = 22, c = 33, d = 44, e = 55;
  __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e));
  EXPECT_EQ(srs_request(
                [](void*) {
                  fesetround(FE_UPWARD);
                  _mm_setcsr(_mm_getcsr() | 0x8040);
                  __asm__ volatile("fld1\n\tfld1\n\tfld1\n\tstd" ::: "st", "st(1)", "st(2)");
                  crash();
                },
                nullptr, nullptr),
            SRS_FAULTED);
  EXPECT_EQ(_mm_getcsr(), mxcsr);
  EXPECT_EQ(fegetround(), rounding);
  EXPECT_EQ(a + b + c + d + e, 165u);
  long double x = 1.0L;
  for (int i = 0; i < 8; ++i) x = x * 2.0L + static_cast<long double>(i);
  EXPECT_EQ(static_cast<double>(x), 503.0) << "the x87 stack is empty again";
}

TEST(SrsScope, ReportedAndPointerFaultsLand) {
  EXPECT_EQ(srs::request([] { srs_crash_suppression_os(SRS_FAULT_REPORTED); }), SRS_FAULTED);
  auto* block = static_cast<char*>(srs_malloc(32));
  EXPECT_EQ(srs::request([&] { srs_ptr_add(block, 33); }), SRS_FAULTED);
  EXPECT_EQ(srs::request([&] { srs_ptr_add(block, 32); }), SRS_OK);
  EXPECT_EQ(srs::request([&] { srs_free(block + 16); }), SRS_FAULTED);
  srs_free(block);
  uint64_t words[2] = {};
  EXPECT_EQ(srs::request([&] { srs_exchange64(reinterpret_cast<char*>(words) + 1, 3); }), SRS_FAULTED);
}

TEST(SrsScope, ExceptionThatLeavesTheScopeLands) {
  uint64_t a = 1;
  EXPECT_EQ(srs::request([&] {
              srs_store64(&a, 2);
              throw std::string("out of here");
            }),
            SRS_FAULTED);
  EXPECT_EQ(a, 1u);
  EXPECT_EQ(srs::request([&] {
              try {
                srs_store64(&a, 3);
                throw 5;
              } catch (int n) {
                EXPECT_EQ(n, 5);
              }
            }),
            SRS_OK)
      << "exceptions inside work";
  EXPECT_EQ(a, 3u);
}

TEST(SrsScope, AtomicOnABadAddressHoldsNothing) {
  auto* volatile bad = reinterpret_cast<void*>(64);
  void* const nowhere = bad;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(srs::request([&] { srs_exchange64(nowhere, 1); }), SRS_FAULTED);
    EXPECT_EQ(srs::request([&] { srs_fetch_add64(nowhere, 1); }), SRS_FAULTED);
    EXPECT_EQ(srs::request([&] { srs_store64(nowhere, 1); }), SRS_FAULTED);
    EXPECT_EQ(srs::request([&] { srs_memcpy(nowhere, "abcdefgh", 8); }), SRS_FAULTED);
    EXPECT_EQ(fake::my_slot()->pending, 0u);
  }
  uint64_t ok = 1;
  EXPECT_EQ(srs::request([&] { EXPECT_EQ(srs_exchange64(&ok, 2), 1u); }), SRS_OK);
}

namespace {
uint64_t handled;
void add_in_handler(int) {
  srs_store64(&handled, handled + 1);
  srs_fetch_add64(&word, 1);
}
}  // namespace

TEST(SrsScope, SignalHandlersMayStore) {
  word = 0;
  handled = 0;
  struct sigaction action {};
  action.sa_handler = add_in_handler;
  sigaction(SIGALRM, &action, nullptr);
  EXPECT_EQ(srs::request([] {
              for (int i = 0; i < 100; ++i) {
                fake::my_slot()->pending = i % 2;  // as if a log step had been interrupted
                raise(SIGALRM);
                fake::my_slot()->pending = 0;
              }
            }),
            SRS_OK);
  EXPECT_EQ(handled, 100u);
  EXPECT_EQ(word, 100u);
  EXPECT_EQ(fake::log_of(fake::my_slot()).bad, 0u);
}

TEST(SrsScope, DeadlineLandsFromALoop) {
  uint64_t a = 1;
  EXPECT_EQ(srs::request([&] {
              srs_store64(&a, 2);
              raise(SIGUSR1);
              for (;;) {
              }
            }),
            SRS_FAULTED);
  EXPECT_EQ(a, 1u);
}
