// links: vmsrs_detect
// Master, backup and followers on one board, with a clock and processes of the test's own.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "runtime/detect/roles.hpp"

namespace {

using namespace vmsrs::runtime::detect;
constexpr uint64_t kMs = 1'000'000, kLease = 1000;

class DetectRoles : public testing::Test {
 protected:
  std::unique_ptr<Roles> join(ProcessId id) {
    living.insert(id);
    auto roles = std::make_unique<Roles>(*board, id, kLease, [this](ProcessId p) { return living.contains(p); });
    EXPECT_TRUE(roles->join(now));
    return roles;
  }
  std::unique_ptr<RoleBoard> board = std::make_unique<RoleBoard>();
  std::set<ProcessId> living;
  uint64_t now = 5'000 * kMs;
};

TEST_F(DetectRoles, TheFirstIsMasterTheSecondBackupTheRestFollow) {
  auto a = join(1), b = join(2), c = join(3);
  EXPECT_EQ(a->step(now).role, Role::kMaster);
  EXPECT_EQ(b->step(now).role, Role::kBackup);
  EXPECT_EQ(c->step(now).role, Role::kFollower);
  EXPECT_EQ(a->epoch(), 1u);
}

TEST_F(DetectRoles, TheBackupTakesOverFromADeadMasterAndAFollowerBecomesBackup) {
  auto a = join(1), b = join(2), c = join(3);
  a->step(now), b->step(now), c->step(now);
  living.erase(1);
  EXPECT_EQ(c->step(now).role, Role::kFollower) << "the backup goes first";
  auto const step = b->step(now + kMs);
  EXPECT_EQ(step.role, Role::kMaster);
  ASSERT_EQ(step.losses.size(), 1u);
  EXPECT_EQ(step.losses[0].who, 1u);
  EXPECT_EQ(step.losses[0].role, Role::kMaster);
  EXPECT_EQ(step.losses[0].verdict.cause, Cause::kDetectorLost);
  EXPECT_EQ(c->step(now + kMs).role, Role::kBackup);
  EXPECT_EQ(b->epoch(), 2u);
  EXPECT_TRUE(b->step(now + 2 * kMs).losses.empty()) << "told once";
}

TEST_F(DetectRoles, ASilentMasterIsReplacedAndFindsThatOutWhenItWakes) {
  auto a = join(1), b = join(2);
  a->step(now), b->step(now);
  now += (kLease + 1) * kMs;
  auto const step = b->step(now);
  EXPECT_EQ(step.role, Role::kMaster);
  ASSERT_EQ(step.losses.size(), 1u);
  EXPECT_EQ(step.losses[0].verdict.cause, Cause::kDetectorSilent);
  EXPECT_FALSE(a->is_master()) << "before it does anything";
  EXPECT_EQ(a->step(now).role, Role::kFollower);
  b->step(now);
  EXPECT_EQ(a->step(now).role, Role::kBackup);
}

TEST_F(DetectRoles, ALostBackupIsReplacedByAFollower) {
  auto a = join(1), b = join(2), c = join(3);
  a->step(now), b->step(now), c->step(now);
  living.erase(2);
  auto const step = a->step(now);
  ASSERT_EQ(step.losses.size(), 1u);
  EXPECT_EQ(step.losses[0].role, Role::kBackup);
  EXPECT_EQ(c->step(now).role, Role::kBackup);
}

TEST_F(DetectRoles, AFollowerTakesOverWhenMasterAndBackupAreLostTogether) {
  auto a = join(1), b = join(2), c = join(3);
  a->step(now), b->step(now), c->step(now);
  living.erase(1), living.erase(2);
  EXPECT_EQ(c->step(now).role, Role::kMaster);
}

TEST_F(DetectRoles, WhoLeavesIsNoLoss) {
  auto a = join(1), b = join(2);
  a->step(now), b->step(now);
  a->leave();
  auto const step = b->step(now);
  EXPECT_EQ(step.role, Role::kMaster);
  EXPECT_TRUE(step.losses.empty());
  EXPECT_EQ(b->epoch(), 2u);
}

TEST_F(DetectRoles, AMasterThatWasAloneAndDidNotBeatIsNotTakenForSilent) {
  auto a = join(1);
  a->step(now);
  now += 100 * kLease * kMs;
  auto b = join(2);
  EXPECT_NE(b->step(now).role, Role::kMaster);
  now += (kLease + 1) * kMs;  // it was rung for, and did not come
  EXPECT_EQ(b->step(now).role, Role::kMaster);
}

TEST_F(DetectRoles, SeatsAreLimitedAndThoseOfTheDeadAreUsedAgain) {
  std::vector<std::unique_ptr<Roles>> all;
  for (ProcessId id = 1; id <= kMaxSeats; ++id) all.push_back(join(id));
  for (auto& roles : all) roles->step(now);
  Roles late(*board, 100, kLease, [this](ProcessId p) { return living.contains(p); });
  EXPECT_FALSE(late.join(now));
  living.erase(kMaxSeats);
  EXPECT_TRUE(late.join(now));
}

// Whatever dies, falls silent and comes back: never two masters of one epoch, and once everybody stepped there is one.
TEST_F(DetectRoles, RandomFailuresNeverMakeTwoMasters) {
  std::mt19937 random(3);
  struct One {
    ProcessId id;
    std::unique_ptr<Roles> roles;
  };
  std::vector<One> all, graves;
  for (ProcessId id = 1; id <= 5; ++id) all.push_back({id, join(id)});
  ProcessId next = 10;
  std::map<uint64_t, ProcessId> master_of;
  for (int round = 0; round < 5000; ++round) {
    now += random() % 700 * kMs;
    for (auto& [id, roles] : all) {
      if (random() % 3 == 0) continue;  // asleep
      roles->step(now);
      if (!roles->is_master()) continue;
      auto const [it, fresh] = master_of.emplace(roles->epoch(), id);
      ASSERT_TRUE(fresh || it->second == id) << "epoch " << roles->epoch();
    }
    if (random() % 10 != 0) continue;
    One& victim = all[random() % all.size()];
    living.erase(victim.id);
    std::swap(victim, all.back());
    graves.push_back(std::move(all.back()));  // who is killed gives no seat back
    all.pop_back();
    // Its seat is free when the living have noticed.
    for (int i = 0; i < 2; ++i) {
      for (auto& [id, roles] : all) roles->step(now);
    }
    all.push_back({next, join(next)});
    ++next;
  }
  for (int i = 0; i < 3; ++i) {
    for (auto& [id, roles] : all) roles->step(now);
  }
  int masters = 0;
  for (auto& [id, roles] : all) masters += roles->is_master() ? 1 : 0;
  EXPECT_EQ(masters, 1);
  EXPECT_GT(master_of.size(), 50u);
}

}  // namespace
