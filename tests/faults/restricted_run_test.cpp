// links: nlohmann_json::nlohmann_json
// The policy `run`: the faulted thread goes on to its scope's end, and nobody sees it (tests/faults/guests/run.cpp).
#include "tests/faults/scenario.hpp"

namespace {

using vmsrs_test::Json;
using vmsrs_test::Outcome;
using vmsrs_test::Scenario;

class RestrictedRun : public Scenario, public testing::WithParamInterface<char const*> {};

std::string policy(std::string const& options) {
  return "--policy run --run-budget 60000 " + options;  // no run of these ends with its time, on a busy machine neither
}

TEST_P(RestrictedRun, GoesToTheScopesEndAndLeavesNoTrace) {
  Outcome const o = run_well(policy(GetParam()), "run end");
  ASSERT_EQ(o.faults.size(), 1U) << o.err;
  Json const& fault = o.faults[0];
  EXPECT_EQ(fault["policy"], "run");
  EXPECT_EQ(fault["outcome"], "run") << o.err;
  EXPECT_EQ(fault["run_end"], "to the scope's end") << o.err;
  EXPECT_EQ(fault["run_faults"], 5) << "the load, three of an asm block, the division";
  EXPECT_GE(fault["run_calls"], 7) << "write, send, write, recv, open, mmap, nanosleep, close";
  EXPECT_EQ(fault["words_polluted"], 8);
  EXPECT_EQ(fault["locks_released"], 1);
  EXPECT_GE(fault["land_us"], fault["run_us"]);
  EXPECT_EQ(o.out, "well\n") << "what it printed is nobody's to read";
}

TEST_P(RestrictedRun, FiftyTimesInOneServer) {
  Outcome const o = run_well(policy(GetParam()), "run fifty");
  ASSERT_EQ(o.faults.size(), 50U);
  for (Json const& fault : o.faults) EXPECT_EQ(fault["run_end"], "to the scope's end");
}

TEST_P(RestrictedRun, OthersSumsStayExact) {
  Outcome const o = run_well(policy(GetParam()), "run among");
  ASSERT_GE(o.faults.size(), 50U);  // under track also dependents
  uint64_t ran = 0;
  for (Json const& fault : o.faults) ran += fault["run_end"] == "to the scope's end" ? 1 : 0;
  EXPECT_EQ(ran, 50U);
  EXPECT_EQ(o.summary["uncontained"], 0);
}

INSTANTIATE_TEST_SUITE_P(Modes, RestrictedRun,
                         testing::Values("", "--restore demand", "--store strict", "--isolation release"),
                         [](auto const& info) {
                           std::string name = info.index == 0 ? "default" : info.param + 2;
                           for (char& c : name) c = isalnum(c) ? c : '_';
                           return name;
                         });

// A run that does not come to its end: the thread lands, and all is as if it had landed at once.
TEST_F(Scenario, ARunEndsWithItsTime) {
  Outcome const o = run_well("--policy run --run-budget 40", "run loop");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["run_end"], "out of time");
  EXPECT_EQ(o.faults[0]["run_faults"], 1);
  EXPECT_GE(o.faults[0]["run_us"], 40'000);
}

TEST_F(Scenario, ARunEndsWithItsFaults) {
  Outcome const o = run_well("--policy run --run-budget 5000 --run-faults 20", "run faults");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["run_end"], "too many faults");
  EXPECT_EQ(o.faults[0]["run_faults"], 21) << "the last one was not gone over";
}

TEST_F(Scenario, ARunEndsWhereNothingFollows) {
  for (char const* how : {"abort", "exit", "throw"}) {
    Outcome const o = run_well(policy(""), std::string("run ") + how);
    ASSERT_EQ(o.faults.size(), 1U) << how;
    EXPECT_EQ(o.faults[0]["run_end"], "the thread gave up") << how;
    EXPECT_EQ(o.faults[0]["outcome"], "run") << how;
  }
  Outcome const o = run_well(policy(""), "run return");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["run_end"], "nowhere to go on");
}

TEST_F(Scenario, AnInnerRequestMayRunOnByItself) {
  for (char const* options : {"", "--restore demand", "--store strict"}) {
    Outcome const o = run_well(std::string("--run-budget 2000 ") + options, "run nested");
    ASSERT_EQ(o.faults.size(), 1U);
    EXPECT_EQ(o.faults[0]["depth"], 2);
    EXPECT_EQ(o.faults[0]["run_end"], "to the scope's end");
  }
}

TEST_F(Scenario, ASecondThreadLandsAtOnceWhileOneRuns) {
  Outcome const o = run_well("--policy run --run-budget 800", "run two");
  ASSERT_EQ(o.faults.size(), 2U);
  Json const& second = o.faults[0]["user"] == 2 ? o.faults[0] : o.faults[1];
  Json const& first = o.faults[0]["user"] == 2 ? o.faults[1] : o.faults[0];
  EXPECT_EQ(second["outcome"], "landed");
  EXPECT_EQ(second["run_end"], "not begun: another thread is in the view");
  EXPECT_LT(second["land_us"], first["land_us"]) << "it did not wait";
  EXPECT_EQ(first["run_end"], "out of time");
}

// Behind these faults nothing is left to run, or the thread's own stack is in doubt: it lands at once.
TEST_F(Scenario, SomeFaultsLandUnderThePolicyRunToo) {
  for (char const* kind : {"stack", "abort", "exception", "deadline-loop"}) {
    Outcome const o = run_well("--policy run", std::string("kinds ") + kind);
    ASSERT_EQ(o.faults.size(), 2U) << kind;
    EXPECT_EQ(o.faults[0]["outcome"], "landed") << kind;
    EXPECT_TRUE(o.faults[0]["run_end"].get<std::string>().starts_with("not begun: ")) << kind;
    EXPECT_EQ(o.faults[1]["outcome"], "run") << kind;
  }
  for (char const* kind : {"load", "store", "hole", "call", "call-data", "non-canonical", "divide", "illegal",
                           "privileged", "reported", "pointer", "double-free"}) {
    Outcome const o = run_well("--policy run --run-budget 2000", std::string("kinds ") + kind);
    ASSERT_EQ(o.faults.size(), 2U) << kind;
    EXPECT_EQ(o.faults[0]["run_end"], "to the scope's end") << kind;
    EXPECT_EQ(o.err.find("still here"), std::string::npos) << "what it says in the view goes nowhere";
  }
}

}  // namespace
