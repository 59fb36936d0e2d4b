// links: srs_hosted
// The strict store mode: every store, atomic and journal record is a hypercall.
#define SRS_FAKE_STRICT
#include <gtest/gtest.h>

#include <mutex>
#include <srs/srs.hpp>

#include "tests/unit/srs_fake_host.hpp"

namespace {

[[gnu::noinline]] void crash() {
  auto* volatile nowhere = reinterpret_cast<int*>(16);
  *nowhere = 1;
}
uint64_t calls(srs_hypercall number) {
  return fake::host().calls[number - SRS_HC_BASE];
}

}  // namespace

TEST(SrsStrict, EveryStoreIsACall) {
  EXPECT_EQ(srs_process_.strict, 1u);
  uint64_t x = 1;
  EXPECT_EQ(srs::request([&] {
              uint64_t const before = calls(SRS_HC_STORE);
              for (uint64_t i = 0; i < 10; ++i) srs_store64(&x, i);
              EXPECT_EQ(calls(SRS_HC_STORE), before + 10);
              srs_memset(reinterpret_cast<char*>(&x) + 1, 7, 3);
              EXPECT_EQ(calls(SRS_HC_STORE), before + 11);
            }),
            SRS_OK);
  EXPECT_EQ(x, 0x07070709u);
}

TEST(SrsStrict, UndoesStoresAtomicsBlocksAndLocks) {
  uint64_t x = 1;
  uint32_t half[2] = {UINT32_MAX, 5};
  std::mutex m;
  EXPECT_EQ(srs::request([&] {
              m.lock();
              srs_store8(reinterpret_cast<char*>(&x) + 3, 9);
              if (srs_fetch_add64(&x, 2) != 0x09000001) abort();
              if (srs_cas64(&x, 1, 2) != 0x09000003) abort();
              if (srs_cas64(&x, 0x09000003, 2) != 0x09000003 || x != 2) abort();
              if (srs_exchange32(&half[1], 6) != 5) abort();
              if (srs_fetch_add32(&half[0], 2) != UINT32_MAX || half[0] != 1) abort();
              srs_free(srs_malloc(10));
              crash();
            }),
            SRS_FAULTED);
  EXPECT_EQ(x, 1u);
  EXPECT_EQ(half[0], UINT32_MAX);
  EXPECT_EQ(half[1], 5u);
  EXPECT_TRUE(m.try_lock());
  m.unlock();
  EXPECT_EQ(fake::my_slot()->head, 0u) << "nothing went by the ring";
}

TEST(SrsStrict, ScopesNestAndRenew) {
  uint64_t x = 1;
  uint64_t y = 1;
  std::mutex m;
  EXPECT_EQ(srs::request(
                [&] {
                  {
                    std::lock_guard const hold(m);
                    srs_store64(&x, 2);
                  }
                  (void)srs::request([&] {
                    srs_store64(&y, 2);
                    crash();
                  });
                  EXPECT_EQ(y, 1u);
                  crash();
                },
                {.isolation = SRS_RELEASE}),
            SRS_FAULTED);
  EXPECT_EQ(x, 2u);
  EXPECT_EQ(y, 1u);
}
