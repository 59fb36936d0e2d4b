// links: bookstore_programs vmsrs_program
// The judge is worth something only if it condemns a server that is not recovered: the paper's 20 users natively, and
// with recovery, undo or suppression switched off. Several seeds each; every one must be condemned, for the right
// reason.
#include <csignal>

#include "tests/faults/bookstore_run.hpp"

namespace {

using namespace bookstore_run;

constexpr int kSeeds = 4;

Outcome paper(int seed, Words const& monitor, bool native = false) {
  return play(
      {.users = {"--paper", "--requests", "6", "--seed", std::to_string(seed)}, .monitor = monitor, .native = native});
}

void expect_death(Outcome const& o) {
  EXPECT_EQ(o.status, 1) << o.output;
  ASSERT_TRUE(o.load.is_object()) << o.output;
  EXPECT_FALSE(o.load["passed"].get<bool>()) << o.output;
  EXPECT_TRUE(o.load["server_died"].get<bool>()) << o.output;
  EXPECT_GT(o.load["connections_lost_without_fault"], 0) << o.output;
}

TEST(BookstoreNatively, TheServerDiesWithTheFirstCrash) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Outcome const o = paper(seed, {}, true);
    expect_death(o);
    int const signal = o.load["server_exit"]["signal"];
    EXPECT_TRUE(signal == SIGSEGV || signal == SIGABRT) << o.output;
  }
}

using BookstoreControl = Bookstore;

TEST_F(BookstoreControl, RecoveryOffDiesAsNatively) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Outcome const o = paper(seed, {"--recovery", "off"});
    expect_death(o);
    int const status = o.load["server_exit"]["status"];
    EXPECT_TRUE(status == 128 + SIGSEGV || status == 128 + SIGABRT) << o.output;
    EXPECT_TRUE(o.faults.empty()) << o.output;
  }
}

TEST_F(BookstoreControl, WithoutSuppressionTheFaultedThreadTakesTheServerWithIt) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Outcome const o = paper(seed, {"--no-suppress"});
    expect_death(o);
    ASSERT_FALSE(o.faults.empty()) << o.output;
    EXPECT_GT(o.faults[0]["words_polluted"], 0) << "undo was to be done all the same";
  }
}

TEST_F(BookstoreControl, WithoutUndoTheUsersSeeHalfPurchases) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Outcome const o = paper(seed, {"--no-undo"});
    EXPECT_EQ(o.status, 1) << o.output;
    ASSERT_TRUE(o.load.is_object()) << o.output;
    EXPECT_FALSE(o.load["passed"].get<bool>()) << o.output;
    EXPECT_FALSE(o.load["server_died"].get<bool>()) << "suppression is on: " << o.output;
    EXPECT_GT(o.load["wrong_answers"], 0) << o.output;
    EXPECT_GT(o.load["lost_updates"], 0) << o.output;
    for (json const& f : o.faults) EXPECT_EQ(f["words_polluted"], 0) << o.output;
  }
}

}  // namespace
