// links: nlohmann_json::nlohmann_json
// Writes past the log, into ranges whose every store is logged.
#include "tests/faults/scenario.hpp"

namespace {

using vmsrs_test::Outcome;

class Wild : public vmsrs_test::Scenario {};

TEST_F(Wild, AreUndone) {
  for (char const* options : {"", "--store strict", "--restore demand"}) {
    Outcome const o = run_well(options, "wild undone");
    ASSERT_EQ(o.faults.size(), 20U);
    for (auto const& fault : o.faults) {
      EXPECT_EQ(fault["wild_undone"], 110) << options;
      EXPECT_EQ(fault["unexplained"], 0);
      EXPECT_EQ(fault["wild_addresses"].size(), 32U);
    }
  }
}

TEST_F(Wild, WhatWasCommittedLastIsPutBack) {
  Outcome const o = run_well("", "wild commits");
  ASSERT_EQ(o.faults.size(), 20U);
  EXPECT_EQ(o.summary["wild_undone"], 20);
}

TEST_F(Wild, LoggedStoresOfOthersAreNotTakenForWild) {
  for (char const* options : {"", "--isolation track"}) {
    Outcome const o = run_well(options, "wild writers");
    EXPECT_EQ(o.faults.size(), 200U);
    EXPECT_EQ(o.summary["wild_undone"], 200) << options;
    EXPECT_EQ(o.summary["unexplained"], 0);
  }
}

TEST_F(Wild, WithoutAFaultTheyAreSaid) {
  Outcome const o = run_well("", "wild unexplained");
  EXPECT_EQ(o.summary["findings"], 1);
  EXPECT_NE(o.err.find("1 words of logged ranges changed without explanation"), std::string::npos) << o.err;
}

}  // namespace
