// links: bookstore_programs vmsrs_program
// User 1 pauses between the two sections of a purchase, user 2 buys the same book meanwhile, then user 1 faults
// (paper 004, section 5.1.3 in a server): what each isolation mode promises of user 2's purchase.
#include "tests/faults/bookstore_run.hpp"

namespace {

using namespace bookstore_run;

class Pair : public Bookstore, public testing::WithParamInterface<char const*> {
 protected:
  // The pause ends when user 2's purchase is done, or after so many ms.
  static Outcome meet(char const* isolation, int seed, int pause_ms) {
    return play({.users = {"--pair", "--faults", "1:store:between:" + vmsrs_test::limit(pause_ms), "--requests", "5",
                           "--seed", std::to_string(seed)},
                 .monitor = {"--store", GetParam(), "--isolation", isolation}});
  }
  static constexpr int kSeeds = 3;
};

TEST_P(Pair, HoldKeepsTheOtherOutUntilTheFaultIsUndone) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Outcome const o = meet("hold", seed, 300);
    expect_exact(o, 1);
    EXPECT_TRUE(o.load["pair"]["met"].get<bool>()) << o.output;
    EXPECT_GE(o.load["pair"]["others_begun"], 1) << o.output;
    EXPECT_EQ(o.load["pair"]["others_done"], 0) << o.output;
    ASSERT_EQ(o.faults.size(), 1U) << o.output;
    EXPECT_GT(o.faults[0]["words_polluted"], 0) << o.output;
    EXPECT_GT(o.faults[0]["locks_released"], 0) << o.output;
  }
}

TEST_P(Pair, ReleaseMakesTheFirstSectionFinalAndTheProgramGivesItBack) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Outcome const o = meet("release", seed, 1500);
    expect_exact(o, 1);
    EXPECT_TRUE(o.load["pair"]["met"].get<bool>()) << o.output;
    EXPECT_GE(o.load["pair"]["others_done"], 1) << o.output;
    ASSERT_EQ(o.faults.size(), 1U) << o.output;
    EXPECT_EQ(o.faults[0]["words_polluted"], 0) << o.output;
  }
}

TEST_P(Pair, TrackLetsTheOtherByAndReportsItAsExposed) {
  for (int seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Outcome const o = meet("track", seed, 1500);
    expect_served(o, 1);
    EXPECT_TRUE(o.load["pair"]["met"].get<bool>()) << o.output;
    EXPECT_GE(o.load["pair"]["others_done"], 1) << o.output;
    ASSERT_EQ(o.faults.size(), 1U) << o.output;
    EXPECT_EQ(o.faults[0]["exposed"], 1) << o.output;
    EXPECT_GT(o.faults[0]["words_polluted"], 0) << o.output;
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, Pair, testing::Values("log", "strict"),
                         [](auto const& info) { return std::string(info.param); });

}  // namespace
