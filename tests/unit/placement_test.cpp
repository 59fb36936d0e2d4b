// links: vmm
// Guest threads keep off reserved processors, and see nothing of it.
#include "vmm/placement.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

namespace vmm {
namespace {

cpu_set_t on_host() {
  cpu_set_t set{};
  sched_getaffinity(0, sizeof set, &set);
  return set;
}

cpu_set_t seen(Placement& placement) {
  cpu_set_t set{};
  EXPECT_GT(placement.get(gettid(), sizeof set, &set), 0);
  return set;
}

bool equal(cpu_set_t const& a, cpu_set_t const& b) {
  return CPU_EQUAL(&a, &b) != 0;
}

unsigned first_of(cpu_set_t const& set) {
  unsigned n = 0;
  while (!CPU_ISSET(n, &set)) ++n;
  return n;
}

// Each test in a thread of its own: affinity is a thread's.
class PlacementTest : public testing::Test {
 protected:
  void SetUp() override {
    all_ = on_host();
    if (CPU_COUNT(&all_) < 2) GTEST_SKIP() << "needs two processors";
    CPU_SET(first_of(all_), &one_);
    CPU_XOR(&rest_, &all_, &one_);
  }
  template <class F>
  static void apart(F f) {
    std::thread(f).join();
  }
  cpu_set_t all_{}, one_{}, rest_{};
};

TEST_F(PlacementTest, ThreadsKeepOffReservedProcessors) {
  apart([&] {
    Placement placement;
    placement.adopt(gettid(), all_);
    placement.reserve(one_);
    EXPECT_TRUE(equal(on_host(), rest_));
    EXPECT_TRUE(equal(seen(placement), all_));
    EXPECT_TRUE(equal(placement.own(gettid()), all_));
    placement.reserve({});
    EXPECT_TRUE(equal(on_host(), all_));
  });
}

TEST_F(PlacementTest, OneThatComesLaterToo) {
  apart([&] {
    Placement placement;
    placement.reserve(one_);
    placement.adopt(gettid(), all_);
    EXPECT_TRUE(equal(on_host(), rest_));
    placement.forget(gettid());
    placement.reserve({});
    EXPECT_TRUE(equal(on_host(), rest_)) << "nobody's business any more";
  });
}

TEST_F(PlacementTest, AGuestThatChoseAReservedOneStaysThere) {
  apart([&] {
    Placement placement;
    placement.adopt(gettid(), all_);
    placement.reserve(one_);
    EXPECT_EQ(placement.set(gettid(), sizeof one_, &one_), 0);
    EXPECT_TRUE(equal(on_host(), one_));
    EXPECT_TRUE(equal(seen(placement), one_));
    EXPECT_EQ(placement.set(gettid(), sizeof all_, &all_), 0);
    EXPECT_TRUE(equal(on_host(), rest_));
    EXPECT_TRUE(equal(seen(placement), all_));
  });
}

TEST_F(PlacementTest, ErrorsAreTheKernels) {
  apart([&] {
    Placement placement;
    placement.adopt(gettid(), all_);
    placement.reserve(one_);
    cpu_set_t const none{};
    cpu_set_t set{};
    EXPECT_EQ(placement.set(gettid(), sizeof none, &none), -EINVAL);
    EXPECT_EQ(placement.get(gettid(), 1, &set), -EINVAL);
    EXPECT_TRUE(equal(seen(placement), all_));
  });
}

}  // namespace
}  // namespace vmm
