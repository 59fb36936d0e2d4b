// links: srs_hosted
// Policy `unwind`: destructors run after the undo, from the faulting instruction to the scope's boundary.
#include <gtest/gtest.h>

#include <mutex>
#include <srs/srs.hpp>
#include <string>

#include "tests/unit/srs_fake_host.hpp"

namespace {

[[gnu::noinline]] void crash_here() {
  auto* volatile nowhere = reinterpret_cast<int*>(16);
  *nowhere = 1;
}
// Called through a pointer: for the compiler a call that may throw, so that its callers have clean-ups there.
void (*volatile crash)() = crash_here;

std::string trace;
struct Traced {
  char name;
  ~Traced() { trace += name; }
};
constexpr srs::options kUnwind{.policy = SRS_UNWIND};

class SrsUnwind : public testing::Test {
 protected:
  // The unwinder must find the scope's frames below the handler's: no stack of its own for that.
  void SetUp() override {
    fake::install_handlers(false);
    trace.clear();
  }
};

}  // namespace

TEST_F(SrsUnwind, DestructorsRunInnermostFirst) {
  uint64_t x = 1;
  EXPECT_EQ(srs::request(
                [&] {
                  Traced const a{'a'};
                  srs_store64(&x, 2);
                  [&]() __attribute__((noinline)) {
                    Traced const b{'b'};
                    crash();
                  }
                  ();
                },
                kUnwind),
            SRS_FAULTED);
  EXPECT_EQ(trace, "ba");
  EXPECT_EQ(x, 1u);
  EXPECT_EQ(fake::my_slot()->depth, 0u);
  EXPECT_EQ(srs::request([&] { srs_store64(&x, 5); }), SRS_OK);
  EXPECT_EQ(x, 5u);
}

TEST_F(SrsUnwind, WhatDestructorsStoreStays) {
  uint64_t x = 1;
  uint64_t ended = 0;
  struct Ends {
    uint64_t* ended;
    ~Ends() { srs_store64(ended, 1); }
  };
  EXPECT_EQ(srs::request(
                [&] {
                  Ends const e{&ended};
                  srs_store64(&x, 2);
                  crash();
                },
                kUnwind),
            SRS_FAULTED);
  EXPECT_EQ(ended, 1u);
  EXPECT_EQ(x, 1u);
}

TEST_F(SrsUnwind, UnlockAndFreeAfterTheAbortAreNoOps) {
  std::mutex m;
  struct Owner {
    void* block = srs_malloc(64);
    ~Owner() {
      srs_free(block);
      trace += 'f';
    }
  };
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(srs::request(
                  [&] {
                    std::lock_guard const hold(m);
                    Owner const owner;
                    crash();
                  },
                  kUnwind),
              SRS_FAULTED);
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  }
  EXPECT_EQ(trace, "fff");
}

TEST_F(SrsUnwind, FaultInADestructorLands) {
  struct Bad {
    ~Bad() { crash(); }
  };
  EXPECT_EQ(srs::request(
                [&] {
                  Traced const a{'a'};
                  Bad const bad;
                  crash();
                },
                kUnwind),
            SRS_FAULTED);
  EXPECT_EQ(trace, "") << "the rest is given up";
  EXPECT_EQ(fake::my_slot()->depth, 0u);
}

TEST_F(SrsUnwind, CatchAllDoesNotKeepTheScopeAlive) {
  EXPECT_EQ(srs::request(
                [&] {
                  Traced const a{'a'};
                  try {
                    Traced const b{'b'};
                    crash();
                  } catch (...) {
                    trace += 'c';
                  }
                  trace += 'x';  // never
                },
                kUnwind),
            SRS_FAULTED);
  EXPECT_EQ(trace.substr(0, 2), "bc");
  EXPECT_EQ(trace.find('x'), std::string::npos);
}

TEST_F(SrsUnwind, NoexceptFramesEndTheUnwinding) {
  EXPECT_EQ(srs::request(
                [&] {
                  Traced const a{'a'};
                  [&]() noexcept __attribute__((noinline)) {
                    Traced const b{'b'};
                    crash();
                  }
                  ();
                },
                kUnwind),
            SRS_FAULTED);
  EXPECT_EQ(trace.find('a'), std::string::npos);
  EXPECT_EQ(fake::my_slot()->depth, 0u);
}

TEST_F(SrsUnwind, GoesThroughNestedScopesToTheAbortedOne) {
  uint64_t x = 1;
  EXPECT_EQ(srs::request(
                [&] {
                  Traced const a{'a'};
                  srs_store64(&x, 2);
                  EXPECT_EQ(srs::request([&] {
                              Traced const b{'b'};
                              srs_store64(&x, 3);
                              fake::abort_index = 0;
                              crash();
                            }),
                            SRS_OK);
                  abort();
                },
                kUnwind),
            SRS_FAULTED);
  EXPECT_EQ(trace, "ba");
  EXPECT_EQ(x, 1u);
  EXPECT_EQ(fake::my_slot()->depth, 0u);
}

TEST_F(SrsUnwind, ReportedFaultUnwindsToo) {
  EXPECT_EQ(srs::request(
                [&] {
                  Traced const a{'a'};
                  srs_crash_suppression_os(SRS_FAULT_REPORTED);
                },
                kUnwind),
            SRS_FAULTED);
  EXPECT_EQ(trace, "a");
}
