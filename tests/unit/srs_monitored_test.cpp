// links: srs_hosted
// What is logged ahead of a plain store: srs_will_store_, as instrumented code calls it.
#include <gtest/gtest.h>
#include <pthread.h>
#include <srs/instrument.h>

#include <functional>

#include "tests/unit/srs_fake_host.hpp"

namespace {

uint64_t stores_logged() {
  fake::drain(fake::my_slot());
  return fake::log_of(fake::my_slot()).kinds[SRS_REC_STORE];
}

void put(uint64_t* p, uint64_t value) {
  srs_will_store_(reinterpret_cast<uint64_t>(p), sizeof *p);
  *const_cast<uint64_t volatile*>(p) = value;
}

srs_status scope(srs_isolation isolation, std::function<void()> fn) {
  srs_options o SRS_OPTIONS_INIT;
  o.isolation = isolation;
  return srs_request([](void* raw) { (*static_cast<std::function<void()>*>(raw))(); }, &fn, &o);
}

uint64_t variable[64];

class SrsMonitored : public testing::Test {
 protected:
  void SetUp() override { srs_profile(variable, sizeof variable, "variable"); }
};

TEST_F(SrsMonitored, AnAbortUndoesPlainStores) {
  auto* const block = static_cast<uint64_t*>(srs_malloc(80));
  for (int i = 0; i < 10; ++i) block[i] = variable[i] = 100u + static_cast<unsigned>(i);
  EXPECT_EQ(scope(SRS_HOLD,
                  [&] {
                    for (int i = 0; i < 10; ++i) {
                      put(block + i, 1);
                      put(variable + i, 2);
                    }
                    put(block, 3);
                    *static_cast<int volatile*>(nullptr) = 0;
                  }),
            SRS_FAULTED);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(block[i], 100u + static_cast<unsigned>(i));
    EXPECT_EQ(variable[i], 100u + static_cast<unsigned>(i));
  }
}

TEST_F(SrsMonitored, ARangeIsLoggedByteByByteAndOnlyOnce) {
  uint64_t before = 0, first = 0, second = 0;
  scope(SRS_HOLD, [&] {
    before = stores_logged();
    srs_will_store_(reinterpret_cast<uint64_t>(variable) + 3, 100);
    first = stores_logged();
    srs_will_store_(reinterpret_cast<uint64_t>(variable) + 3, 100);
    second = stores_logged();
  });
  EXPECT_EQ(first - before, 13u) << "bytes 3 to 102";
  EXPECT_EQ(second, first);
}

TEST_F(SrsMonitored, OtherMemoryIsNotLogged) {
  static uint64_t unknown;
  uint64_t before = 0, after = 0;
  scope(SRS_HOLD, [&] {
    uint64_t local = 0;
    before = stores_logged();
    put(&unknown, 1);
    put(&local, 1);
    after = stores_logged();
  });
  EXPECT_EQ(after, before);
}

TEST_F(SrsMonitored, AFreshBlockNeedsNoLogButUnderTrack) {
  for (srs_isolation isolation : {SRS_HOLD, SRS_RELEASE, SRS_TRACK}) {
    uint64_t before = 0, after = 0;
    scope(isolation, [&] {
      auto* const block = static_cast<uint64_t*>(srs_malloc(64));
      before = stores_logged();
      put(block, 1);
      after = stores_logged();
    });
    EXPECT_EQ(after - before, isolation == SRS_TRACK ? 1u : 0u) << isolation;
  }
}

// Under `release` the block is there to stay once the lock is given up: an abort does not free it.
TEST_F(SrsMonitored, AFreshBlockIsLoggedOnceItIsFinal) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  uint64_t* block = nullptr;
  EXPECT_EQ(scope(SRS_RELEASE,
                  [&] {
                    pthread_mutex_lock(&mutex);
                    block = static_cast<uint64_t*>(srs_malloc(64));
                    put(block, 7);
                    put(variable, reinterpret_cast<uint64_t>(block));  // everybody may know it now
                    pthread_mutex_unlock(&mutex);
                    put(block, 8);
                    *static_cast<int volatile*>(nullptr) = 0;
                  }),
            SRS_FAULTED);
  EXPECT_EQ(*block, 7u);
  EXPECT_EQ(variable[0], reinterpret_cast<uint64_t>(block));
}

// An inner scope's abort frees only its own blocks.
TEST_F(SrsMonitored, AnOuterScopesBlockIsNotFreshToAnInnerOne) {
  scope(SRS_HOLD, [] {
    auto* const block = static_cast<uint64_t*>(srs_malloc(64));
    put(block, 5);
    EXPECT_EQ(scope(SRS_HOLD,
                    [&] {
                      put(block, 6);
                      *static_cast<int volatile*>(nullptr) = 0;
                    }),
              SRS_FAULTED);
    EXPECT_EQ(*block, 5u);
  });
}

}  // namespace
