// links: vmsrs_gateway vmsrs_replicate failover_part_program
// Failover of a small server without a VM: each part is a process, killed and stopped for real, between any two
// messages too. The judge of the clients' history (failover/history.hpp) decides.
#include "tests/unit/failover/plant.hpp"

namespace {

using namespace failover;

// Until so many more answers came; false: they did not.
bool more_answers(Clients const& clients, uint64_t more, std::chrono::milliseconds within = 8s) {
  uint64_t const until = clients.answered() + more;
  auto const end = std::chrono::steady_clock::now() + within;
  while (clients.answered() < until && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(1ms);
  return clients.answered() >= until;
}

TEST(FailoverProtocol, KilledPrimariesCostNoAnswerAndNoConnection) {
  Plant plant;
  ASSERT_NE(plant.port, 0) << plant.said();
  ASSERT_TRUE(plant.protected_now()) << plant.said();
  Clients clients(plant.port, 4, 10s);
  for (int round = 0; round < 6; ++round) {
    ASSERT_TRUE(more_answers(clients, 50 + 13 * static_cast<uint64_t>(round))) << plant.said();
    plant.primary->signal(SIGKILL);
    plant.primary->reap();
    plant.fail_over();
    ASSERT_TRUE(plant.succeed()) << plant.said();
    ASSERT_TRUE(plant.protected_now()) << plant.said();
  }
  ASSERT_TRUE(more_answers(clients, 50)) << plant.said();
  EXPECT_EQ(clients.judge(), "") << plant.said();
  EXPECT_EQ(clients.lost(), 0U) << plant.said();
  RecordProperty("longest_wait_ms", static_cast<int>(clients.longest_wait_ns() / 1'000'000));
}

TEST(FailoverProtocol, APrimaryThatWasOnlyAsleepDoesNoHarm) {
  Plant plant({}, "strict", 200);
  ASSERT_TRUE(plant.protected_now()) << plant.said();
  Clients clients(plant.port, 4, 10s);
  ASSERT_TRUE(more_answers(clients, 100)) << plant.said();
  plant.primary->signal(SIGSTOP);  // its lease runs out
  std::unique_ptr<Part> const sleeper = std::move(plant.primary);
  ASSERT_TRUE(plant.succeed()) << plant.backup->all() << plant.gateway->all();
  ASSERT_TRUE(more_answers(clients, 50)) << plant.said();
  sleeper->signal(SIGCONT);
  ASSERT_TRUE(more_answers(clients, 100)) << plant.said();
  EXPECT_TRUE(sleeper->ended_within(5s)) << "it went on:\n" << sleeper->all();
  EXPECT_EQ(clients.judge(), "") << sleeper->all() << plant.said();
  EXPECT_EQ(clients.lost(), 0U) << plant.said();
}

TEST(FailoverProtocol, ABackupThatDiesOrHangsStopsNobody) {
  Plant plant;
  ASSERT_TRUE(plant.protected_now()) << plant.said();
  Clients clients(plant.port, 2, 10s);
  ASSERT_TRUE(more_answers(clients, 50));
  plant.backup->signal(SIGKILL);
  plant.backup->reap();
  ASSERT_TRUE(more_answers(clients, 50)) << plant.said();
  plant.add_backup();
  ASSERT_TRUE(plant.protected_now()) << plant.said();
  ASSERT_TRUE(more_answers(clients, 50)) << plant.said();
  plant.backup->signal(SIGSTOP);  // given up after a second
  ASSERT_TRUE(more_answers(clients, 2'000, 20s)) << plant.said();
  // What it holds is of no use any more: much has left since. It must not take over.
  plant.primary->signal(SIGKILL);
  plant.primary->reap();
  plant.backup->signal(SIGCONT);
  plant.fail_over();
  EXPECT_NE(plant.backup->line("ends: "), "") << plant.said();
  EXPECT_EQ(clients.judge(), "") << plant.said();
}

TEST(FailoverProtocol, WithoutReplayTheConnectionsThatWereAtWorkAreReset) {
  Plant plant;
  ASSERT_TRUE(plant.protected_now()) << plant.said();
  Clients clients(plant.port, 4, 10s);
  ASSERT_TRUE(more_answers(clients, 50));
  plant.primary->signal(SIGKILL);
  plant.primary->reap();
  plant.fail_over(false);
  ASSERT_TRUE(plant.succeed()) << plant.said();
  ASSERT_TRUE(more_answers(clients, 50)) << plant.said();
  EXPECT_EQ(clients.judge(), "") << plant.said();
}

TEST(FailoverProtocol, RelaxedLossIsReported) {
  uint64_t told = 0;
  for (int round = 0; round < 8 && told == 0; ++round) {
    Plant plant({}, "relaxed");
    ASSERT_TRUE(plant.protected_now()) << plant.said();
    Clients clients(plant.port, 4, 10s);
    ASSERT_TRUE(more_answers(clients, 300)) << plant.said();
    plant.primary->signal(SIGKILL);
    plant.primary->reap();
    plant.fail_over();
    ASSERT_TRUE(plant.succeed()) << plant.said();
    ASSERT_TRUE(more_answers(clients, 50)) << plant.said();
    std::this_thread::sleep_for(120ms);
    told = plant.figure("unsafe");
    bool const wrong = !clients.judge().empty();
    EXPECT_TRUE(!wrong || told != 0) << "answers were lost and nobody said so";
  }
  EXPECT_NE(told, 0U) << "no round showed output that had left before it was safe";
}

// Kills one part before each message that it sends, and after each that it receives, one after the other.
struct Deaths {
  char const* part;
  long DeathsAt::*at;
  long until;
};

class EveryStep : public testing::TestWithParam<Deaths> {};

TEST_P(EveryStep, NoAnswerIsWrong) {
  Deaths const deaths = GetParam();
  int died = 0, took_over = 0;
  for (long step = 1; step <= deaths.until; ++step) {
    DeathsAt at;
    at.*deaths.at = step;
    Plant plant(at);
    std::string const part = deaths.part;
    Part* const victim = part == "gateway"   ? plant.gateway.get()
                         : part == "primary" ? plant.primary.get()
                                             : plant.backup.get();
    Clients clients(plant.port, 2, 2s);
    // It dies by itself; steps that come late in its life need some load.
    bool gone = victim->ended_within(400ms);
    if (part == "backup" && !gone) {
      // Its later steps are those of taking over.
      plant.primary->signal(SIGKILL);
      plant.primary->reap();
      plant.fail_over();
      gone = victim->ended_within(400ms);
    } else if (part == "primary" && gone) {
      bool const held = !plant.backup->line("holds ", 50ms).empty();
      plant.fail_over();
      if (held) {
        ASSERT_TRUE(plant.succeed()) << "step " << step << "\n" << plant.said();
        ASSERT_TRUE(more_answers(clients, 10)) << "step " << step << "\n" << plant.said();
        EXPECT_EQ(clients.lost(), 0U) << "step " << step << "\n" << plant.said();
        ++took_over;
      } else {
        // Nobody can go on: the clients need not wait for it.
        plant.gateway->signal(SIGKILL);
      }
    } else if (part == "gateway" && gone) {
      EXPECT_TRUE(plant.primary->ended_within(6s)) << "it goes on without a gateway\n" << plant.said();
    }
    ASSERT_EQ(clients.judge(), "") << part << " step " << step << "\n" << plant.said();
    if (gone) ++died;
  }
  EXPECT_GT(died, deaths.until / 2) << "most steps were never reached";
  EXPECT_TRUE(std::string(deaths.part) != "primary" || took_over > 0);
  RecordProperty("deaths", died);
}

INSTANTIATE_TEST_SUITE_P(Of, EveryStep,
                         testing::Values(Deaths{"primary", &DeathsAt::primary, 36},
                                         Deaths{"backup", &DeathsAt::backup, 20},
                                         Deaths{"gateway", &DeathsAt::gateway, 24}),
                         [](auto const& info) { return std::string(info.param.part); });

}  // namespace
