// links: bookstore_programs vmsrs_program
// Every kind of fault that the bookstore can be asked for, at every point of a purchase, with everything else at its
// default: 16 users fault in one run, each in their own way, 4 more are healthy. The faulted are told the truth, the
// others are served, and the report names what happened.
#include <map>

#include "tests/faults/bookstore_run.hpp"

namespace {

using namespace bookstore_run;

// What is injected, and what the report must call it.
std::vector<std::pair<std::string, std::string>> const kKinds = {
    {"load", "load"},
    {"store", "store"},
    {"hole", "store"},
    {"call", "bad call"},
    {"noncanonical", "non-canonical access"},
    {"divide", "division"},
    {"illegal", "illegal instruction"},
    {"stack", "stack overflow"},
    {"abort", "abort"},
    {"assert", "abort"},
    {"exception", "uncaught exception"},
    {"reported", "reported"},
    {"pointer", "bad pointer"},
    {"deadline", "deadline"},
    {"sleep", "deadline"},
    {"deadlock", "deadline"},
};

Setup all_kinds_at(std::string const& point, Words const& monitor) {
  std::string faults;
  for (std::size_t i = 0; i < kKinds.size(); ++i)
    faults += (i != 0 ? "," : "") + std::to_string(i + 1) + ":" + kKinds[i].first + ":" + point;
  return {.users = {"--users", "20", "--requests", "6", "--buyers", "all", "--faults", faults}, .monitor = monitor};
}

void expect_told_the_truth(Outcome const& o) {
  for (json const& f : o.load["faults"]) {
    EXPECT_EQ(f["status"], 500) << f;
    EXPECT_EQ(f["told_committed"], false) << f;
    EXPECT_EQ(f["order_found"], false) << f;
  }
}

class Kinds : public Bookstore, public testing::WithParamInterface<char const*> {};

TEST_P(Kinds, AreContainedAndNamed) {
  std::string const point = GetParam();
  Outcome const o = play(all_kinds_at(point, {}));
  expect_exact(o, kKinds.size());
  ASSERT_EQ(o.load["faults"].size(), kKinds.size()) << o.output;
  expect_told_the_truth(o);
  EXPECT_EQ(o.faults.size(), kKinds.size()) << o.output;
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    SCOPED_TRACE(kKinds[i].first);
    json const f = o.fault_of(i + 1);
    ASSERT_FALSE(f.is_null()) << o.output;
    EXPECT_EQ(f["kind"], kKinds[i].second) << o.output;
    EXPECT_EQ(f["outcome"], "landed") << o.output;
    EXPECT_GE(f["exits"], 3) << o.output;  // the fault, what is to be given back, the end of the landing
    EXPECT_FALSE(f["output_before_abort"].get<bool>()) << o.output;
    if (point == "before") {
      EXPECT_EQ(f["words_polluted"], 0) << o.output;
    } else if (kKinds[i].second != "deadline") {  // which may strike in front of a lock that another one's loop holds
      EXPECT_GT(f["words_polluted"], 0) << o.output;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Points, Kinds, testing::Values("before", "mid", "between", "torn", "after"),
                         [](auto const& info) { return std::string(info.param); });

using KindsUnwinding = Bookstore;

TEST_F(KindsUnwinding, DestructorsRunWhereTheStackIsThere) {
  Outcome const o = play(all_kinds_at("torn", {"--policy", "unwind"}));
  expect_exact(o, kKinds.size());
  expect_told_the_truth(o);
  for (std::size_t i = 0; i < kKinds.size(); ++i) {
    SCOPED_TRACE(kKinds[i].first);
    json f = o.fault_of(i + 1);
    if (kKinds[i].first == "call") {
      // The unwinder reads code at the caller's address, which here is garbage: it faults itself, and lands.
      for (json const& each : o.faults)
        if (each["user"] == i + 1 && each["kind"] == "bad call") f = each;
    }
    ASSERT_FALSE(f.is_null()) << o.output;
    EXPECT_EQ(f["kind"], kKinds[i].second) << o.output;
    EXPECT_EQ(f["outcome"], kKinds[i].first == "stack" ? "landed" : "unwound") << o.output;
  }
}

// When the answer leaves, and the fault before, between, inside, after the sections and after the answer.
class Answers : public Bookstore, public testing::WithParamInterface<char const*> {};

TEST_P(Answers, AreTrueWhereverTheFaultStrikes) {
  std::string const answer = GetParam();
  for (std::string const point : {"before", "mid", "between", "torn", "after", "sent"}) {
    SCOPED_TRACE(point);
    Outcome const o =
        play({.users = {"--users", "4", "--requests", "6", "--buyers", "all", "--faults", "1:store:" + point},
              .server = {"--answer", answer}});
    ASSERT_EQ(o.faults.size(), 1U) << o.output;
    EXPECT_EQ(o.faults[0]["outcome"], "landed") << o.output;
    // Held back, the answer goes with its scope.
    bool const out = point == "sent" && answer != "held";
    expect_exact(o, out ? 0 : 1);
    ASSERT_EQ(o.load["faults"].size(), 1U) << o.output;
    if (out) {
      EXPECT_EQ(o.load["faults"][0]["status"], 200) << o.output;
      EXPECT_GT(o.load["purchases"], 0);
    } else {
      expect_told_the_truth(o);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Leave, Answers, testing::Values("after", "send", "held"),
                         [](auto const& info) { return std::string(info.param); });

}  // namespace
