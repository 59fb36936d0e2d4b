// links: nlohmann_json::nlohmann_json
// A call's buffer is taken away while it blocks, by another scope's abort on the same page.
#include "tests/faults/scenario.hpp"

namespace {

class BufferAway : public vmsrs_test::Scenario, public testing::WithParamInterface<char const*> {};

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

}  // namespace
