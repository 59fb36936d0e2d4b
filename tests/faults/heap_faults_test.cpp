// links: nlohmann_json::nlohmann_json
// Mistakes with blocks of the heap: overflow into a neighbour, use after free, double free, too much memory.
#include <cstdlib>

#include "tests/faults/scenario.hpp"

namespace {

using vmsrs_test::Json;
using vmsrs_test::Outcome;

class HeapFaults : public vmsrs_test::Scenario {
 protected:
  void TearDown() override {
    unsetenv("SRS_HEAP");
    Scenario::TearDown();
  }
  Outcome run_heap(char const* heap, char const* guest) {
    setenv("SRS_HEAP", heap, 1);
    Outcome o = run_well("", std::string("heap_faults ") + guest);
    EXPECT_EQ(o.summary["uncontained"], 0);
    return o;
  }
};

TEST_F(HeapFaults, OverflowReachesNoNeighbour) {
  EXPECT_EQ(run_heap("guard", "overflow").faults.size(), 40U);
}

TEST_F(HeapFaults, OverflowByAFewBytesIsFoundAtTheFree) {
  Outcome const o = run_heap("guard", "slack");
  ASSERT_EQ(o.faults.size(), 20U);
  EXPECT_EQ(o.faults[0]["why"], "srs_free of a block whose end was written over");
}

TEST_F(HeapFaults, UseAfterFree) {
  EXPECT_EQ(run_heap("guard", "read-freed").faults.size(), 20U);
  EXPECT_EQ(run_heap("guard", "write-freed").faults.size(), 20U);
}

TEST_F(HeapFaults, Quarantine) {
  Outcome const o = run_heap("quarantine=1", "quarantine");
  EXPECT_EQ(o.faults.size(), 2U);
  EXPECT_EQ(o.summary["findings"], 1) << "a write to a freed block";
  EXPECT_NE(o.err.find("was written to after it was freed"), std::string::npos) << o.err;
}

TEST_F(HeapFaults, DoubleFree) {
  for (char const* heap : {"", "guard", "guard=3,quarantine=1"})
    EXPECT_EQ(run_heap(heap, "double-free").faults.size(), 40U) << heap;
}

TEST_F(HeapFaults, MemoryExhaustionOfAScope) {
  Outcome const o = run_heap("", "exhaustion");
  EXPECT_EQ(o.faults.size(), 40U);
  EXPECT_NE(o.faults[0]["why"].get<std::string>().find("bad_alloc"), std::string::npos) << o.faults[0]["why"];
}

TEST_F(HeapFaults, AWordThatThereIsNot) {
  setenv("SRS_HEAP", "gard", 1);
  Outcome const o = run("", "heap_faults overflow");
  EXPECT_NE(o.status, 0);
  EXPECT_NE(o.err.find("SRS_HEAP names what there is not"), std::string::npos) << o.err;
}

}  // namespace
