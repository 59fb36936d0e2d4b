// links: vmsrs_events
// The queue's order, and the way from an event to an act.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "runtime/events/protect_policy.hpp"

namespace {

using namespace vmsrs::runtime::events;
using namespace std::chrono_literals;

Event event(Kind kind, std::string subject, int64_t value = 0, Priority priority = Priority::kNormal) {
  Event e;
  e.kind = kind;
  e.priority = priority;
  e.subject = std::move(subject);
  e.value = value;
  return e;
}

TEST(Events, PriorityThenTimeThenArrival) {
  EventQueue queue;
  auto const now = Clock::now();
  auto const push = [&](char const* name, Priority priority, Clock::time_point due) {
    Event e = event(Kind::kPartEnded, name, 0, priority);
    e.due = due;
    queue.push(e);
  };
  push("late normal", Priority::kNormal, now - 1ms);
  push("early normal", Priority::kNormal, now - 9ms);
  push("low", Priority::kLow, now - 99ms);
  push("urgent", Priority::kUrgent, now - 1ms);
  push("late normal, second", Priority::kNormal, now - 1ms);
  push("not yet", Priority::kUrgent, now + 1h);
  std::vector<std::string> order;
  while (auto e = queue.pop(now)) order.push_back(e->subject);
  EXPECT_EQ(order, (std::vector<std::string>{"urgent", "early normal", "late normal", "late normal, second", "low"}));
  EXPECT_EQ(queue.size(), 1U);
}

TEST(Events, AnEventThatIsDueNowWakesWhoWaitsForALaterOne) {
  EventQueue queue;
  Event later = event(Kind::kPartEnded, "later");
  later.due = Clock::now() + 1h;
  queue.push(later);
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);
    queue.push(event(Kind::kPartEnded, "now", 0, Priority::kLow));
  });
  auto const got = queue.pop(Clock::now() + 60s);
  other.join();
  ASSERT_TRUE(got.has_value());
  EXPECT_EQ(got->subject, "now");
}

TEST(Events, CloseEndsTheWait) {
  EventQueue queue;
  std::thread other([&] {
    std::this_thread::sleep_for(20ms);
    queue.close();
  });
  EXPECT_FALSE(queue.pop().has_value());
  other.join();
  EXPECT_EQ(queue.push(event(Kind::kPartEnded, "after")), 0U);
}

// A protected server whose parts are counters.
struct Plant {
  std::ostringstream log;
  Spine spine{&log};
  std::vector<std::string> acts;
  bool failover_works = true;

  Plant() {
    spine.add_policy(std::make_unique<ProtectPolicy>());
    spine.add_executor(Action::kFailOver, [this](Decision const& d, Event const&) -> std::optional<std::string> {
      acts.push_back(d.value == 1 ? "failover with replay" : "failover without replay");
      if (!failover_works) return "the backup does not answer";
      spine.post(event(Kind::kTookOver, "backup"));
      return std::nullopt;
    });
    spine.add_executor(Action::kStartBackup, [this](Decision const&, Event const&) -> std::optional<std::string> {
      acts.emplace_back("start backup");
      spine.post(event(Kind::kBackupReady, "backup"));
      return std::nullopt;
    });
    spine.add_executor(Action::kEnd, [this](Decision const& d, Event const&) -> std::optional<std::string> {
      acts.push_back("end " + std::to_string(d.value));
      return std::nullopt;
    });
  }
  std::vector<std::string> after(std::vector<Event> const& events) {
    for (Event const& e : events) {
      spine.post(e);
      spine.run(Clock::now());  // until nothing is due
    }
    return std::exchange(acts, {});
  }
};

using Acts = std::vector<std::string>;

TEST(Events, ADeadPrimaryIsReplacedAndRedundancyComesBack) {
  Plant plant;
  EXPECT_EQ(plant.after({event(Kind::kBackupReady, "backup"), event(Kind::kPartEnded, "primary", 137)}),
            (Acts{"failover with replay", "start backup"}));
}

TEST(Events, TheSecondTimeTheInputIsNotReplayedAndAtLastAllEnds) {
  Plant plant;
  std::vector<Event> const dies = {event(Kind::kPartEnded, "primary", 139)};
  plant.after({event(Kind::kBackupReady, "backup")});
  EXPECT_EQ(plant.after(dies), (Acts{"failover with replay", "start backup"}));
  EXPECT_EQ(plant.after(dies), (Acts{"failover without replay", "start backup"}));
  EXPECT_EQ(plant.after(dies), (Acts{"failover without replay", "start backup"}));
  EXPECT_EQ(plant.after(dies), (Acts{"failover without replay", "start backup"}));
  EXPECT_EQ(plant.after(dies), (Acts{"end 139"}));
}

TEST(Events, WithoutABackupTheDeathEndsAll) {
  Plant plant;
  EXPECT_EQ(plant.after({event(Kind::kPartEnded, "primary", 137)}), (Acts{"end 137"}));
}

TEST(Events, AProgramThatEndsByItselfIsNoFault) {
  Plant plant;
  EXPECT_EQ(plant.after({event(Kind::kBackupReady, "backup"), event(Kind::kApplicationEnded, "primary", 3),
                         event(Kind::kPartEnded, "primary", 3)}),
            (Acts{"end 3"}));
}

TEST(Events, AProgramThatASignalEndedIsOne) {
  Plant plant;
  EXPECT_EQ(plant.after({event(Kind::kBackupReady, "backup"), event(Kind::kApplicationEnded, "primary", 139),
                         event(Kind::kPartEnded, "primary", 139)}),
            (Acts{"failover with replay", "start backup"}));
}

TEST(Events, AProgramThatWasAskedToEndIsNoFault) {
  Plant plant;
  EXPECT_EQ(plant.after({event(Kind::kBackupReady, "backup"), event(Kind::kApplicationEnded, "primary", 143),
                         event(Kind::kPartEnded, "primary", 143)}),
            (Acts{"end 143"}));
}

TEST(Events, TheProgramsStatusCountsHoweverItsMonitorEnds) {
  Plant plant;
  EXPECT_EQ(plant.after({event(Kind::kBackupReady, "backup"), event(Kind::kApplicationEnded, "primary", 3),
                         event(Kind::kPartEnded, "backup", 0), event(Kind::kPartEnded, "primary", 137)}),
            (Acts{"end 3"}));
}

TEST(Events, AProgramThatEndedIsNotRevivedWhileItsProcessIsSlowToGo) {
  Plant plant;
  EXPECT_EQ(plant.after({event(Kind::kBackupReady, "backup"), event(Kind::kApplicationEnded, "primary", 3),
                         event(Kind::kLeaseExpired, "primary"), event(Kind::kPartEnded, "primary", 3)}),
            (Acts{"end 3"}));
  Plant other;
  EXPECT_EQ(other.after({event(Kind::kBackupReady, "backup"), event(Kind::kApplicationEnded, "primary", 3),
                         event(Kind::kPartEnded, "gateway", 0)}),
            (Acts{"end 3"}));
}

TEST(Events, ContainedFaultsEscalateWhenThereAreTooMany) {
  Plant plant;
  plant.after({event(Kind::kBackupReady, "backup")});
  for (int i = 0; i < 19; ++i) EXPECT_EQ(plant.after({event(Kind::kRequestFaulted, "guest")}), Acts{});
  EXPECT_EQ(plant.after({event(Kind::kRequestFaulted, "guest")}), (Acts{"failover with replay", "start backup"}));
}

TEST(Events, ALockThatIsStuckAfterAFailoverTooEndsAll) {
  Plant plant;
  plant.after({event(Kind::kBackupReady, "backup")});
  EXPECT_EQ(plant.after({event(Kind::kStuckLock, "primary")}), (Acts{"failover with replay", "start backup"}));
  EXPECT_EQ(plant.after({event(Kind::kStuckLock, "primary")}), (Acts{"end 134"}));
}

TEST(Events, AFailedFailoverEndsAll) {
  Plant plant;
  plant.failover_works = false;
  EXPECT_EQ(plant.after({event(Kind::kBackupReady, "backup"), event(Kind::kLeaseExpired, "primary")}),
            (Acts{"failover with replay", "end 125"}));
}

TEST(Events, EveryDecisionIsLoggedWithItsCause) {
  Plant plant;
  plant.after({event(Kind::kBackupReady, "backup"), event(Kind::kPartEnded, "primary", 137)});
  std::istringstream lines(plant.log.str());
  std::map<uint64_t, nlohmann::json> by_id;
  nlohmann::json failover, restored;
  for (std::string line; std::getline(lines, line);) {
    auto const json = nlohmann::json::parse(line);
    if (json["decision"] == "fail_over") failover = json;
    if (json["event"] == "action_done" && json["detail"] == "fail_over") restored = json;
  }
  ASSERT_FALSE(failover.is_null());
  EXPECT_EQ(failover["event"], "part_ended");
  EXPECT_EQ(failover["value"], 137);
  EXPECT_NE(failover["reason"].get<std::string>().find("died"), std::string::npos);
  ASSERT_FALSE(restored.is_null());
  EXPECT_EQ(restored["cause"], failover["id"]);
}

}  // namespace
