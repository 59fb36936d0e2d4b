// links: vmsrs_lease
// The lease in shared memory: one holder, terms that grow, a holder that slept is over.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "runtime/lease/shared_coordinator.hpp"

namespace {

using vmsrs::runtime::Coordinator;
using vmsrs::runtime::PartRole;
using vmsrs::runtime::SharedCoordinator;
using vmsrs::runtime::Term;
using namespace std::chrono_literals;

struct SharedLease : testing::Test {
  std::string const name =
      "vmsrs-test-" + std::to_string(getpid()) + "-" + testing::UnitTest::GetInstance()->current_test_info()->name();
  std::unique_ptr<SharedCoordinator> owner;
  void SetUp() override {
    auto made = SharedCoordinator::create(name);
    ASSERT_TRUE(made) << made.error().message;
    owner = std::move(*made);
  }
  std::unique_ptr<Coordinator> other() {
    auto opened = vmsrs::runtime::open_coordinator("shm:" + name);
    EXPECT_TRUE(opened) << opened.error().message;
    return std::move(*opened);
  }
};

TEST_F(SharedLease, OneHolderAtATimeAndTermsGrow) {
  auto const a = other(), b = other();
  Term const first = a->acquire(10s)->value();
  EXPECT_FALSE(b->acquire(10s)->has_value());
  EXPECT_TRUE(*a->renew(first, 10s));
  ASSERT_TRUE(b->revoke(first, false));
  EXPECT_FALSE(b->look()->held);
  EXPECT_TRUE(b->look()->revoked);
  EXPECT_FALSE(b->look()->replay);
  Term const second = b->acquire(10s)->value();
  EXPECT_GT(second, first);
  EXPECT_FALSE(*a->renew(first, 10s));
  EXPECT_TRUE(b->look()->replay) << "what was said of the term before does not hold for this one";
}

TEST_F(SharedLease, AHolderThatSleptIsOver) {
  auto const a = other(), b = other();
  Term const first = a->acquire(30ms)->value();
  std::this_thread::sleep_for(60ms);
  EXPECT_FALSE(a->look()->held);
  Term const second = b->acquire(10s)->value();
  EXPECT_EQ(second, first + 1);
  EXPECT_FALSE(*a->renew(first, 10s)) << "it woke up";
  EXPECT_EQ(b->look()->term, second);
}

TEST_F(SharedLease, ALateHolderGoesOnWhereNobodyCame) {
  auto const a = other();
  Term const first = a->acquire(10ms)->value();
  std::this_thread::sleep_for(30ms);
  EXPECT_TRUE(*a->renew(first, 10s));
}

TEST_F(SharedLease, OfManyAtOnceOneGetsEachTerm) {
  constexpr int kThreads = 4, kRounds = 2'000;
  std::vector<std::thread> threads;
  std::array<std::vector<Term>, kThreads> got;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      auto const mine = other();
      for (int round = 0; round < kRounds; ++round) {
        auto const term = *mine->acquire(10s);
        if (!term) continue;
        got[static_cast<size_t>(i)].push_back(*term);
        (void)mine->revoke(*term, true);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::vector<Term> all;
  for (auto const& mine : got) all.insert(all.end(), mine.begin(), mine.end());
  std::ranges::sort(all);
  ASSERT_FALSE(all.empty());
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], i + 1) << "a term was given twice or left out";
}

TEST_F(SharedLease, AKilledHolderLeavesNothingLocked) {
  for (int round = 0; round < 20; ++round) {
    pid_t const child = fork();
    if (child == 0) {
      auto const mine = other();
      for (;;) {
        auto const term = *mine->acquire(1ms);
        if (term) (void)mine->renew(*term, 1ms);
        (void)mine->announce(PartRole::kBackup, "unix:@" + std::to_string(getpid()));
      }
    }
    std::this_thread::sleep_for(5ms);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    std::this_thread::sleep_for(3ms);
    ASSERT_TRUE(owner->acquire(1ms)->has_value());
    std::this_thread::sleep_for(3ms);
    ASSERT_TRUE(owner->find(PartRole::kBackup)->empty()) << "a dead part is still known";
  }
}

TEST_F(SharedLease, PartsAreFoundByTheirRole) {
  auto const a = other(), b = other();
  ASSERT_TRUE(a->announce(PartRole::kBackup, "unix:@one"));
  ASSERT_TRUE(b->announce(PartRole::kGateway, "unix:@two"));
  EXPECT_EQ(*owner->find(PartRole::kBackup), std::vector<std::string>{"unix:@one"});
  ASSERT_TRUE(a->withdraw());
  EXPECT_TRUE(owner->find(PartRole::kBackup)->empty());
  EXPECT_EQ(owner->find(PartRole::kGateway)->size(), 1U);
}

TEST(Coordinator, BadAddressesAreRefusedWithTheReason) {
  EXPECT_NE(vmsrs::runtime::open_coordinator("zookeeper://x").error().message.find("etcd://"), std::string::npos);
  EXPECT_FALSE(vmsrs::runtime::open_coordinator("shm:vmsrs-no-such-page"));
  EXPECT_FALSE(vmsrs::runtime::open_coordinator("etcd://"));
  auto const unreachable = vmsrs::runtime::open_coordinator("etcd://127.0.0.1:1/x");
  ASSERT_FALSE(unreachable);
  EXPECT_NE(unreachable.error().message.find("127.0.0.1:1"), std::string::npos) << unreachable.error().message;
}

}  // namespace
