// links: nlohmann_json::nlohmann_json
// The paper's experiments (004, section 5.1) and every kind of fault, as guest programs under the monitor.
#include "tests/faults/scenario.hpp"

namespace {

using vmsrs_test::Json;
using vmsrs_test::Outcome;
using vmsrs_test::Scenario;

struct Kind {
  char const* guest;  // its argument
  char const* report;
};

class FaultKind : public Scenario, public testing::WithParamInterface<Kind> {};

TEST_P(FaultKind, IsContainedAndItsThreadServesOn) {
  for (char const* options : {"", "--store strict"}) {
    Outcome const o = run_well(options, std::string("kinds ") + GetParam().guest);
    ASSERT_GE(o.faults.size(), 2U) << o.err;
    size_t const last = o.faults.size() - 2;
    for (size_t i = 0; i < last; ++i) {  // struck before the scope had made its stores: it was tried again
      EXPECT_EQ(o.faults[i]["kind"], "deadline") << options;
      EXPECT_LE(o.faults[i]["words_polluted"], 60);
    }
    Json const& fault = o.faults[last];
    EXPECT_EQ(fault["kind"], GetParam().report) << options;
    EXPECT_EQ(fault["outcome"], "landed");
    EXPECT_EQ(fault["user"], 77);
    EXPECT_EQ(fault["words_polluted"], 60);
    EXPECT_EQ(fault["damaged_records"], 0);
    EXPECT_EQ(o.summary["uncontained"], 0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Each, FaultKind,
    testing::Values(Kind{"load", "load"}, Kind{"store", "store"}, Kind{"hole", "store"}, Kind{"read-only", "store"},
                    Kind{"call", "bad call"}, Kind{"call-data", "illegal instruction"},
                    Kind{"non-canonical", "non-canonical access"}, Kind{"kernel", "load"}, Kind{"divide", "division"},
                    Kind{"illegal", "illegal instruction"}, Kind{"privileged", "non-canonical access"},
                    Kind{"stack", "stack overflow"}, Kind{"abort", "abort"}, Kind{"abort-handled", "abort"},
                    Kind{"assert", "abort"}, Kind{"exception", "uncaught exception"}, Kind{"reported", "reported"},
                    Kind{"pointer", "bad pointer"}, Kind{"pointer-add", "bad pointer"},
                    Kind{"double-free", "bad pointer"}, Kind{"deadline-loop", "deadline"},
                    Kind{"deadline-read", "deadline"}, Kind{"deadline-lock", "deadline"}),
    [](auto const& info) {
      std::string name = info.param.guest;
      for (char& c : name) c = c == '-' ? '_' : c;
      return name;
    });

TEST_F(Scenario, RecoveryEffect) {
  for (char const* how : {"pointer", "hole"}) {
    for (char const* options : {"", "--restore demand", "--restore eager", "--store strict", "--isolation track"}) {
      Outcome const o = run_well(options, std::string("roster ") + how);
      ASSERT_EQ(o.faults.size(), 1U) << o.err;
      EXPECT_EQ(o.faults[0]["kind"], "store");
      EXPECT_EQ(o.faults[0]["user"], 3);
      EXPECT_EQ(o.faults[0]["words_polluted"], 15);
      EXPECT_EQ(o.faults[0]["exposed"], 0);
    }
  }
}

TEST_F(Scenario, WordsComeBackByTrap) {
  Outcome const o = run_well("--restore demand --sweep-after 60000", "restore trap");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["restore"], "demand");
  EXPECT_EQ(o.faults[0]["words_polluted"], 2);
  EXPECT_EQ(o.faults[0]["by_trap"], 2);
  EXPECT_EQ(o.faults[0]["by_overwrite"], 0);
  EXPECT_EQ(o.faults[0]["by_sweep"], 0);
  EXPECT_EQ(o.faults[0]["by_eager"], 0);
  EXPECT_GE(o.stats["missing_traps"].get<uint64_t>(), 1U);
}

TEST_F(Scenario, WordsComeBackByOverwriting) {
  Outcome const o = run_well("--restore demand --sweep-after 60000", "restore overwrite");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["by_overwrite"], 1) << "the word that was stored to";
  EXPECT_EQ(o.faults[0]["by_trap"], 1) << "its neighbour on the page";
  EXPECT_EQ(o.faults[0]["by_sweep"], 0);
}

TEST_F(Scenario, WordsComeBackBySweep) {
  Outcome const o = run_well("--restore demand --sweep-after 50", "restore sweep");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["by_sweep"], 2);
  EXPECT_EQ(o.faults[0]["by_trap"], 0);
  EXPECT_EQ(o.faults[0]["by_overwrite"], 0);
  EXPECT_EQ(o.stats["missing_traps"], 0) << "nobody had to wait for them";
}

TEST_F(Scenario, WordsComeBackInSeveralWays) {
  Outcome const o = run_well("--restore demand --sweep-after 150", "restore several");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["pages"], 3);
  EXPECT_EQ(o.faults[0]["words_polluted"], 4);
  EXPECT_EQ(o.faults[0]["by_overwrite"], 1);
  EXPECT_EQ(o.faults[0]["by_trap"], 2);
  EXPECT_EQ(o.faults[0]["by_sweep"], 1);
}

// One instruction meets page after page, each of which the sweep may have put back a moment before.
TEST_F(Scenario, ManyPagesComeBackToOneLoopWhileTheSweepRuns) {
  Outcome const o = run_well("--restore demand --sweep-after 1", "pages 400");
  EXPECT_EQ(o.faults.size(), 400U);
  EXPECT_EQ(o.summary["uncontained"], 0);
  EXPECT_EQ(sum(o.faults, "by_trap") + sum(o.faults, "by_sweep"), 19200U);
  EXPECT_GT(sum(o.faults, "by_trap"), 0U);
  EXPECT_GT(sum(o.faults, "by_sweep"), 0U);
}

TEST_F(Scenario, WordsComeBackAtOnce) {
  for (char const* options : {"--restore eager", "--restore auto"}) {
    Outcome const o = run_well(options, "restore several");
    ASSERT_EQ(o.faults.size(), 1U);
    EXPECT_EQ(o.faults[0]["restore"], "eager");
    EXPECT_EQ(o.faults[0]["by_eager"], 4);
    EXPECT_EQ(sum(o.faults, "by_trap") + sum(o.faults, "by_overwrite") + sum(o.faults, "by_sweep"), 0U);
    EXPECT_EQ(o.stats["missing_traps"], 0);
  }
}

TEST_F(Scenario, ReadersWhileTheSuppressionBegins) {
  for (char const* options : {"--restore demand", "--restore demand --store strict"})
    run_well(options, "consistency 1");
  for (char const* options : {"", "--restore demand", "--restore eager"}) run_well(options, "consistency 1-locked");
}

TEST_F(Scenario, WhoWritesAfterTheFaultIsReadAfterHim) {
  for (char const* options : {"", "--restore demand", "--restore eager", "--store strict"}) {
    Outcome const o = run_well(options, "consistency 2");
    ASSERT_EQ(o.faults.size(), 1U);
    EXPECT_EQ(o.faults[0]["words_polluted"], 10);
  }
}

TEST_F(Scenario, DataAndItsRecoveryDataChangeAsOne) {
  for (char const* options : {"", "--restore demand", "--restore eager"}) run_well(options, "consistency 3");
}

TEST_F(Scenario, FiguresFourAndFive) {
  for (char const* options : {"", "--restore demand", "--restore eager", "--store strict", "--isolation track"}) {
    Outcome const o = run_well(options, "consistency figures");
    ASSERT_EQ(o.faults.size(), 1U);
    EXPECT_EQ(o.faults[0]["words_polluted"], 1);
  }
  Outcome const o = run_well("--restore demand --sweep-after 60000", "consistency figures");
  EXPECT_EQ(sum(o.faults, "by_trap"), 1U) << "P1's load brings P0's line back";
}

TEST_F(Scenario, NestedScopes) {
  for (char const* options : {"", "--store strict", "--restore demand"}) run_well(options, "journal nested");
}

TEST_F(Scenario, BlocksOfAbortedScopes) {
  Outcome const o = run_well("", "journal heap");
  EXPECT_EQ(sum(o.faults, "blocks_freed"), 80U) << "two for each of 40 aborts";
}

TEST_F(Scenario, LocksOfAbortedScopes) {
  Outcome const o = run_well("", "journal locks");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_GE(o.faults[0]["locks_released"].get<uint64_t>(), 2U);
}

TEST_F(Scenario, DescriptorsOfAbortedScopes) {
  Outcome const o = run_well("", "journal fds");
  EXPECT_EQ(sum(o.faults, "fds_closed"), 50U * 4);
}

TEST_F(Scenario, WhatACallReadIsUndone) {
  for (char const* options : {"", "--store strict", "--restore demand"}) run_well(options, "journal read");
}

TEST_F(Scenario, DestructorsRunWhereThePolicyIsUnwind) {
  Outcome const o = run_well("", "journal unwind");
  for (Json const& fault : o.faults) EXPECT_EQ(fault["outcome"], "unwound");
}

TEST_F(Scenario, TwoHundredThreadsTwentyOfThemFaulting) {
  for (char const* policy : {"land", "unwind"}) {
    Outcome const o = run_well("", std::string("many ") + policy);
    EXPECT_EQ(o.faults.size(), 100U);
    EXPECT_EQ(o.summary["uncontained"], 0);
    EXPECT_GE(o.stats["peak_threads"].get<uint64_t>(), 201U);
  }
}

}  // namespace
