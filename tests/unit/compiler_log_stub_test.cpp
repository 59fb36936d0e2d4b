// links: srs_hosted srs_instrument
// srs_log_, as instrumented code calls it: which words of a long range it takes for the scope's own, and what it keeps.
#include <gtest/gtest.h>
#include <srs/instrument.h>

#include <functional>

#include "tests/unit/srs_fake_host.hpp"

namespace {

alignas(64) uint64_t words[80];

uint64_t stores_logged() {
  fake::drain(fake::my_slot());
  return fake::log_of(fake::my_slot()).kinds[SRS_REC_STORE];
}

// Returns whether the vector registers that it uses were kept.
bool log_stub(uint64_t const* at, uint64_t bytes) {
  uint64_t const in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  uint64_t out[8] = {};
  __asm__ volatile(
      "movdqu (%[in]), %%xmm0\n\tmovdqu 16(%[in]), %%xmm1\n\tmovdqu 32(%[in]), %%xmm2\n\tmovdqu 48(%[in]), %%xmm3\n\t"
      "subq $128, %%rsp\n\tcall srs_log_\n\taddq $128, %%rsp\n\t"
      "movdqu %%xmm0, (%[out])\n\tmovdqu %%xmm1, 16(%[out])\n\tmovdqu %%xmm2, 32(%[out])\n\tmovdqu %%xmm3, 48(%[out])"
      : "+a"(bytes)
      : "D"(at), [in] "r"(in), [out] "r"(out)
      : "rcx", "rdx", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3");
  return std::equal(std::begin(in), std::end(in), std::begin(out));
}

void scope(std::function<void()> fn) {
  srs_request([](void* raw) { (*static_cast<std::function<void()>*>(raw))(); }, &fn, nullptr);
}

class LogStub : public testing::Test {
 protected:
  void SetUp() override { srs_profile(words, sizeof words, "words"); }
};

// One word of a range is not the scope's yet, or not all of its bytes: wherever it lies, it is logged, and no other.
TEST_F(LogStub, FindsTheOneWordThatIsNotLogged) {
  for (unsigned n : {31u, 32u, 33u, 34u, 35u, 36u, 37u, 39u, 40u, 41u, 47u, 64u, 65u}) {
    for (unsigned hole = 0; hole < n; ++hole) {
      for (bool part : {false, true}) {
        uint64_t logged = 0;
        bool kept = false;
        scope([&] {
          auto const at = reinterpret_cast<uint64_t>(words);
          srs_will_store_(at, hole * 8);
          srs_will_store_(at + hole * 8 + 8, (n - hole - 1) * 8);
          if (part) srs_will_store_(at + hole * 8, 3);
          uint64_t const before = stores_logged();
          kept = log_stub(words, n * 8);
          logged = stores_logged() - before;
        });
        ASSERT_EQ(logged, 1u) << n << " words, number " << hole << (part ? " in part" : "");
        ASSERT_TRUE(kept) << n << " words, number " << hole;
      }
    }
  }
}

TEST_F(LogStub, LogsNothingOfARangeThatIsTheScopesOwn) {
  for (unsigned n : {32u, 33u, 40u, 79u, 80u}) {
    scope([&] {
      srs_will_store_(reinterpret_cast<uint64_t>(words), n * 8);
      uint64_t const before = stores_logged();
      EXPECT_TRUE(log_stub(words, n * 8));
      EXPECT_EQ(stores_logged(), before) << n;
    });
  }
}

// The word after the range belongs to nobody: that must not matter.
TEST_F(LogStub, LooksAtNoWordBeyondTheRange) {
  scope([] {
    srs_will_store_(reinterpret_cast<uint64_t>(words), 36 * 8);
    uint64_t const before = stores_logged();
    log_stub(words, 36 * 8);
    EXPECT_EQ(stores_logged(), before);
    log_stub(words, 37 * 8);
    EXPECT_EQ(stores_logged(), before + 1);
  });
}

// A block that the scope allocated is its own up to its end, and under `track` it is not.
TEST_F(LogStub, KnowsTheBlockThatTheScopeAllocated) {
  for (srs_isolation isolation : {SRS_HOLD, SRS_TRACK}) {
    srs_options o SRS_OPTIONS_INIT;
    o.isolation = isolation;
    uint64_t inside = 0, before = 0;
    struct Run {
      uint64_t *inside, *before;
    } run{&inside, &before};
    srs_request(
        [](void* raw) {
          auto const& r = *static_cast<Run*>(raw);
          auto* const block = static_cast<uint64_t*>(srs_malloc(64));
          *r.before = stores_logged();
          log_stub(block, 8);
          log_stub(block + 7, 8);
          *r.inside = stores_logged();
        },
        &run, &o);
    EXPECT_EQ(inside - before, isolation == SRS_TRACK ? 2u : 0u) << isolation;
  }
}

}  // namespace
