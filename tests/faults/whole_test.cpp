// links: nlohmann_json::nlohmann_json
// Made whole: what a scope did outside memory, and faults in places that are hard to leave
// (tests/faults/guests/whole.cpp keeps other users busy all the while, and checks them).
#include <csignal>

#include "tests/faults/scenario.hpp"

namespace {

using vmsrs_test::Json;
using vmsrs_test::Outcome;

class Whole : public vmsrs_test::Scenario {
 protected:
  static std::vector<std::string> left(Json const& fault) {
    std::vector<std::string> calls;
    for (Json const& effect : fault["effects"]) {
      if (!effect["undone"]) calls.push_back(effect["call"]);
    }
    return calls;
  }
};

TEST_F(Whole, FilesAreWhatTheyWere) {
  Outcome const o = run_well("", "whole files");
  EXPECT_EQ(sum(o.faults, "effects_left"), 0U) << o.err;
  EXPECT_EQ(sum(o.faults, "files_undone"), 6U + 1 + 1 + 1 + 2);
}

TEST_F(Whole, WhatOthersWroteToTheFileStays) {
  Outcome const o = run_well("", "whole files-shared");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["files_undone"], 1);
  ASSERT_EQ(o.faults[0]["effects_left"], 1);
  Json const& kept = o.faults[0]["effects"][1];
  EXPECT_EQ(kept["call"], "pwrite64");
  EXPECT_EQ(kept["offset"], 2);
  EXPECT_EQ(kept["size"], 4);
  EXPECT_EQ(kept["undone"], false);
}

TEST_F(Whole, WhatIsNotTakenBackIsNamed) {
  Outcome const o = run_well("", "whole effects");
  ASSERT_EQ(o.faults.size(), 1U);
  Json const& effects = o.faults[0]["effects"];
  EXPECT_EQ(left(o.faults[0]), (std::vector<std::string>{"open (created)", "rename", "write", "pwrite64"})) << effects;
  ASSERT_EQ(effects.size(), 4U);
  EXPECT_EQ(effects[3]["offset"], 100);
  EXPECT_EQ(effects[3]["size"], 9) << "two writes that follow each other are told as one";
  EXPECT_TRUE(effects[3]["path"].get<std::string>().starts_with("/tmp/vmsrs-whole-"));
  EXPECT_GE(effects[3]["fd"], 3);
  EXPECT_NE(o.err.find("pwrite64 of /tmp/vmsrs-whole-"), std::string::npos) << o.err;
}

TEST_F(Whole, DescriptorsThatTheScopeClosedAreOpenAgain) {
  Outcome const o = run_well("", "whole closed");
  EXPECT_EQ(sum(o.faults, "fds_reopened"), 2U);
  EXPECT_EQ(sum(o.faults, "fds_closed"), 2U);
}

TEST_F(Whole, SignalHandlerWithinAScope) {
  for (char const* how : {"whole handler", "whole handler-stack"}) {
    Outcome const o = run_well("", how);
    EXPECT_EQ(o.faults.size(), 21U);
    EXPECT_EQ(o.summary["uncontained"], 0);
  }
}

TEST_F(Whole, SecondFaultOnTheWayOfTheLanding) {
  for (char const* how : {"whole landing", "whole landing-unwind"}) {
    Outcome const o = run_well("", how);
    ASSERT_EQ(o.faults.size(), 30U) << o.err;  // each scope's own, and two locks whose memory is gone
    unsigned again = 0, told = 0;
    for (Json const& fault : o.faults) {
      again += fault["outcome"] == "landed again" ? 1 : 0;
      told += fault["not_whole"].size();
    }
    EXPECT_EQ(again, 20U);
    EXPECT_EQ(told, 20U) << "the scope's own report names what could not be given back";
    EXPECT_EQ(o.summary["uncontained"], 0);
  }
}

TEST_F(Whole, DestructorWhileAnExceptionIsInFlight) {
  Outcome const o = run_well("", "whole unwinding");
  EXPECT_EQ(o.faults.size(), 20U);
  EXPECT_EQ(o.summary["uncontained"], 0);
}

TEST_F(Whole, EightThreadsAtOnce) {
  for (char const* options : {"", "--restore demand", "--restore demand --sweep-after 60000"}) {
    Outcome const o = run_well(options, "whole together");
    EXPECT_EQ(o.faults.size(), 160U);
    EXPECT_EQ(o.summary["uncontained"], 0);
    EXPECT_EQ(sum(o.faults, "words_polluted"), 160U * 256);
  }
}

}  // namespace
