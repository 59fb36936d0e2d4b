// links: nlohmann_json::nlohmann_json
// What a call or a store reaches: a buffer that is taken away while its call blocks; what the monitor keeps.
#include <csignal>

#include "tests/faults/scenario.hpp"

namespace {

class BufferAway : public vmsrs_test::Scenario, public testing::WithParamInterface<char const*> {};

class IsolatedStore : public vmsrs_test::Scenario {};

TEST_P(BufferAway, NothingIsLost) {
  auto const o = run_well("--restore demand --sweep-after 60000", std::string("away ") + GetParam());
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["restore"], "demand");
  EXPECT_EQ(o.faults[0]["words_polluted"], 8);
  EXPECT_EQ(o.faults[0]["by_trap"], 8) << "the call itself brought the page back";
}

INSTANTIATE_TEST_SUITE_P(Each, BufferAway,
                         testing::Values("read", "recv", "readv", "recvmsg", "poll", "select", "epoll_wait", "accept",
                                         "getsockname"),
                         [](auto const& info) { return std::string(info.param); });

// 5.1.2: what was taken from the ring is out of reach; what was not is told, and no other value appears.
TEST_F(IsolatedStore, WhatAGuestOverwritesChangesNoRecoveryData) {
  for (std::string const what : {"ring", "slot", "tags", "calls"}) {
    auto const o = run_well("", "isolation " + what);
    ASSERT_EQ(o.faults.size(), 1U) << what;
    EXPECT_EQ(o.faults[0]["words_polluted"], 1000) << what;
    if (what != "tags") {
      EXPECT_EQ(o.faults[0]["damaged_records"], 0) << what;
    }
  }
  auto const o = run_well("", "isolation half");
  ASSERT_EQ(o.faults.size(), 1U);
  EXPECT_EQ(o.faults[0]["words_polluted"], 500);
  EXPECT_EQ(o.faults[0]["damaged_records"], 500);
}

// Even the scope's beginning was lost: nothing can be undone, so no thread and no handler of the guest's goes on.
TEST_F(IsolatedStore, AFaultThatCannotBeUndoneEndsTheProcess) {
  for (auto const& [how, status] :
       {std::pair{"", 128 + SIGSEGV}, {"-report", 128 + SIGABRT}, {"-hang", 128 + SIGXCPU}}) {
    auto const o = run("", std::string("isolation undrained") + how);
    EXPECT_EQ(o.status, status) << how << o.err;
    EXPECT_EQ(o.out, "") << how;
    ASSERT_EQ(o.faults.size(), 1U) << how;
    EXPECT_TRUE(o.faults[0]["outcome"].get<std::string>().starts_with("not contained: not undone")) << how;
    EXPECT_NE(o.err.find("outcome: not contained: not undone"), std::string::npos) << o.err;
    EXPECT_EQ(o.summary["uncontained"], 1) << how;
  }
}

}  // namespace
