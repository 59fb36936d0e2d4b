// links: nlohmann_json::nlohmann_json
// Faults inside the C library: with a lock of the whole process held the guest ends, else only the scope is undone.
#include <csignal>

#include "tests/faults/scenario.hpp"

namespace {

using vmsrs_test::Outcome;

class InLibrary : public vmsrs_test::Scenario, public testing::WithParamInterface<char const*> {};
class LibraryLock : public vmsrs_test::Scenario,
                    public testing::WithParamInterface<std::pair<char const*, char const*>> {};

TEST_P(InLibrary, Lands) {
  Outcome const o = run_well("", std::string("library lands ") + GetParam());
  ASSERT_EQ(o.faults.size(), 10U) << o.err;
  for (auto const& fault : o.faults) EXPECT_EQ(fault["outcome"], "landed");
  EXPECT_EQ(o.summary["uncontained"], 0);
}

INSTANTIATE_TEST_SUITE_P(Each, InLibrary,
                         testing::Values("memcpy-srs", "memcpy", "memcpy-from", "strlen", "snprintf", "qsort",
                                         "free-twice"),
                         [](auto const& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST_P(LibraryLock, EndsTheGuest) {
  Outcome const o = run("", std::string("library escalates ") + GetParam().first);
  EXPECT_GE(o.status, 128) << o.err;
  EXPECT_EQ(o.err.find("still here"), std::string::npos) << o.err;
  ASSERT_EQ(o.faults.size(), 1U) << o.err;
  std::string const outcome = o.faults[0]["outcome"];
  EXPECT_TRUE(outcome.starts_with(std::string("not contained: inside ") + GetParam().second)) << outcome;
  EXPECT_EQ(o.summary["uncontained"], 1);
}

INSTANTIATE_TEST_SUITE_P(Each, LibraryLock,
                         testing::Values(std::pair{"printf", "the C library: "}, std::pair{"loader", "the C library: "},
                                         std::pair{"malloc", "the C library's allocator"},
                                         std::pair{"heap", "the monitored heap"}),
                         [](auto const& info) { return std::string(info.param.first); });

}  // namespace
