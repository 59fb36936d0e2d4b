// links: nlohmann_json::nlohmann_json
// An ordinary server with std:: containers, built by srs-c++ (wrapped/): its requests crash, and nothing of theirs
// stays.
#include "tests/faults/scenario.hpp"

namespace {

using vmsrs_test::Outcome;
using vmsrs_test::Scenario;

class WrappedServer : public Scenario, public testing::WithParamInterface<char const*> {};

// A quarter of each kind of crash; the guest compares the shop with what its clients were told.
TEST_P(WrappedServer, CrashedRequestsLeaveNoTrace) {
  Outcome const o = run_well(GetParam(), "wrapped_server 200 5");
  EXPECT_EQ(o.faults.size(), 160U) << o.err;
  EXPECT_NE(o.out.find("640 served, 160 failed"), std::string::npos) << o.out;
  EXPECT_EQ(o.summary["uncontained"], 0);
}

INSTANTIATE_TEST_SUITE_P(Modes, WrappedServer,
                         testing::Values("", "--restore demand", "--restore eager", "--isolation hold --policy run"),
                         [](auto const& info) {
                           std::string name = info.index == 0 ? "default" : info.param + 2;
                           for (char& c : name) c = isalnum(c) ? c : '_';
                           return name;
                         });

TEST_F(Scenario, WrappedServerWithoutCrashes) {
  Outcome const o = run_well("", "wrapped_server 300 0");
  EXPECT_TRUE(o.faults.empty());
}

// What the test would see if stores were not logged: the same program, but nothing is monitored.
TEST_F(Scenario, WrappedServerWithoutMonitoredMemoryKeepsWhatCrashed) {
  Outcome const o = run("--env SRS_MONITOR=none", "wrapped_server 50 5");
  EXPECT_NE(o.status, 0) << o.out;
}

// Outside the monitor it is the program that it was.
TEST_F(Scenario, WrappedServerAlone) {
  auto const guest =
      std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "guests/wrapped_server";
  EXPECT_EQ(std::system((guest.string() + " 200 0 > /dev/null").c_str()), 0);
  EXPECT_NE(std::system(("exec " + guest.string() + " 20 5 > /dev/null 2>&1").c_str()), 0);
}

}  // namespace
