// links: nlohmann_json::nlohmann_json
// What an aborted scope owed others: semaphores, wake-ups, events, locks, its client's answer.
#include "tests/faults/scenario.hpp"

namespace {

using vmsrs_test::Outcome;

class Owed : public vmsrs_test::Scenario {};

TEST_F(Owed, Semaphores) {
  for (char const* options : {"", "--store strict"}) {
    Outcome const o = run_well(options, "owed semaphores");
    EXPECT_EQ(o.faults.size(), 60U);
    EXPECT_EQ(o.summary["not_whole"], 0);
  }
}

TEST_F(Owed, APostThatSomebodyHasTakenIsReported) {
  Outcome const o = run_well("", "owed post-taken");
  ASSERT_EQ(o.faults.size(), 1U);
  ASSERT_EQ(o.faults[0]["not_whole"].size(), 1U);
  EXPECT_NE(o.faults[0]["not_whole"][0].get<std::string>().find("was taken by another thread"), std::string::npos);
}

TEST_F(Owed, WhoWaitsForAPostHoldsOnToNothing) {
  Outcome const o = run_well("", "owed handed-over");
  EXPECT_EQ(o.faults.size(), 0U);
}

TEST_F(Owed, ADeadlineStrikesASemaphoresWait) {
  EXPECT_EQ(run_well("", "owed deadline").faults.size(), 1U);
}

TEST_F(Owed, TheOtherWaiterIsWoken) {
  EXPECT_EQ(run_well("", "owed wakeup").faults.size(), 20U);
}

TEST_F(Owed, LocksOfCpp) {
  Outcome const o = run_well("", "owed cpp-locks");
  EXPECT_EQ(o.faults.size(), 20U);
  EXPECT_GE(sum(o.faults, "locks_released"), 20U * 4);
}

TEST_F(Owed, EventsAreGivenBack) {
  Outcome const o = run_well("", "owed events");
  EXPECT_EQ(sum(o.faults, "events_returned"), 20U);
}

TEST_F(Owed, TheClientIsAnsweredOrItsConnectionClosed) {
  Outcome const o = run_well("", "owed client");
  EXPECT_EQ(o.faults.size(), 80U);
}

}  // namespace
