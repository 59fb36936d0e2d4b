// links: vmsrs_detect
// Proofs of a deadlock from looks at threads.
#include <gtest/gtest.h>

#include "runtime/detect/wait_graph.hpp"

namespace {

using namespace vmsrs::runtime::detect;
constexpr uint64_t kStep = 100'000'000;

ThreadLook waits(int tid, int owner, uint64_t exits = 5, uint32_t word = 2) {
  ThreadLook t;
  t.tid = tid, t.owner = owner, t.word = word, t.exits = exits;
  t.blocked = t.unlimited_futex = true;
  return t;
}

ThreadLook runs(int tid, uint64_t exits, uint64_t cpu_ns) {
  ThreadLook t;
  t.tid = tid, t.exits = exits, t.cpu_ns = cpu_ns;
  t.in_guest = true;
  return t;
}

TEST(WaitGraph, FindsCircles) {
  EXPECT_EQ(lock_cycle({waits(1000, 1001), waits(1001, 1000)}), (std::vector<int>{1000, 1001}));
  EXPECT_EQ(lock_cycle({waits(1000, 1000)}), std::vector<int>{1000}) << "locked twice";
  EXPECT_EQ(lock_cycle({waits(1000, 1001), waits(1001, 1002), waits(1002, 1001)}), (std::vector<int>{1001, 1002}))
      << "1000 only waits behind it";
  EXPECT_EQ(lock_cycle({waits(1000, 1001), waits(1001, 1002), waits(1002, 1003), waits(1003, 1001)}).size(), 3u);
}

TEST(WaitGraph, NoCircleWhereSomebodyCanGoOn) {
  EXPECT_TRUE(lock_cycle({}).empty());
  EXPECT_TRUE(lock_cycle({waits(1000, 1001), runs(1001, 1, 1)}).empty());
  EXPECT_TRUE(lock_cycle({waits(1000, 1001)}).empty()) << "its owner is gone: no circle";
  EXPECT_TRUE(lock_cycle({waits(1000, 1001), waits(1001, 1000, 5, 1)}).empty()) << "a word that is no contended lock";
  ThreadLook limited = waits(1001, 1000);
  limited.unlimited_futex = false;
  EXPECT_TRUE(lock_cycle({waits(1000, 1001), limited}).empty());
}

TEST(WaitGraph, AProofTakesTwoLooksAndNoStepBetween) {
  WaitGraph graph;
  graph.look({waits(1000, 1001), waits(1001, 1000)}, 0);
  EXPECT_EQ(graph.proven_cycle(), "");
  graph.look({waits(1000, 1001), waits(1001, 1000, 6)}, kStep);
  EXPECT_EQ(graph.proven_cycle(), "") << "1001 had gone on and came again";
  graph.look({waits(1000, 1001), waits(1001, 1000, 6)}, kStep);
  EXPECT_NE(graph.proven_cycle().find("thread 1001"), std::string::npos);
  graph.look({waits(1000, 1001), runs(1001, 7, 0)}, kStep);
  EXPECT_EQ(graph.proven_cycle(), "");
}

TEST(WaitGraph, AllBlockedMeansEachAndWithoutAStep) {
  WaitGraph graph;
  graph.look({waits(1000, 0, 5, 0), waits(1001, 0, 5, 0)}, 0);
  EXPECT_FALSE(graph.all_blocked());
  graph.look({waits(1000, 0, 5, 0), waits(1001, 0, 5, 0)}, kStep);
  EXPECT_TRUE(graph.all_blocked());
  ThreadLook reads = waits(1001, 0, 5, 0);
  reads.unlimited_futex = false;
  graph.look({waits(1000, 0, 5, 0), reads}, kStep);
  EXPECT_FALSE(graph.all_blocked());
}

TEST(WaitGraph, SpinningIsComputingWithoutACall) {
  WaitGraph graph;
  graph.look({runs(1000, 5, 0)}, 0);
  EXPECT_EQ(graph.spinning(), "");
  graph.look({runs(1000, 5, kStep)}, kStep);
  EXPECT_NE(graph.spinning(), "");
  graph.look({runs(1000, 6, 2 * kStep)}, kStep);
  EXPECT_EQ(graph.spinning(), "") << "it made a call";
  graph.look({runs(1000, 6, 2 * kStep + kStep / 20)}, kStep);
  EXPECT_EQ(graph.spinning(), "") << "it hardly ran";
  graph.look({runs(1000, 6, 2 * kStep + kStep / 20 + kStep / 5)}, kStep);
  EXPECT_NE(graph.spinning(), "") << "a fifth of a processor is all that a busy host gives it";
}

}  // namespace
