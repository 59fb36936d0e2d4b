// links: bookstore_shop bookstore_users srs_hosted
// The whole shop and its users in one process, over a monitor made of ordinary memory that really undoes and lands:
// users crash, nobody else notices. And the judge notices when the monitor does not do its work.
//
// That monitor undoes only what the scope itself stored, which is exact where no other scope wrote the same words
// since: under `hold` always.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "examples/bookstore/load/client.hpp"
#include "examples/bookstore/load/report.hpp"
#include "examples/bookstore/load/users.hpp"
#include "examples/bookstore/service.hpp"
#include "examples/bookstore/transport.hpp"
#include "tests/unit/srs_fake_host.hpp"

namespace {

using namespace bookstore;
using namespace bookstore::load;
using namespace std::chrono_literals;
using nlohmann::json;

// What this monitor catches: it has no deadlines, and lets SIGABRT end the process.
constexpr Kind kCaught[] = {Kind::load,   Kind::store,   Kind::hole,     Kind::call,   Kind::noncanonical,
                            Kind::divide, Kind::illegal, Kind::reported, Kind::pointer};
constexpr Point kPoints[] = {Point::before, Point::mid, Point::between, Point::torn, Point::after, Point::sent};

class Server {
 public:
  explicit Server(ServiceOptions options) : http_(40), service_((options.inject = true, options), http_) {
    auto const bound = http_.open("127.0.0.1", 0);
    if (!bound) throw std::runtime_error(bound.error());
    plan.port = *bound;
    plan.run = "t";
    plan.requests = 12;
    plan.timeout = 20s;
    plan.deadline = std::chrono::steady_clock::now() + 60s;
    thread_ = std::thread([this] { http_.run(); });
  }
  ~Server() {
    http_.request_stop();
    thread_.join();
  }

  // Runs `play` between the first and the last look at the shop's state.
  template <class Play>
  load::Run judged(Play play) {
    Client control(plan.host, plan.port, 0, plan.timeout);
    load::Run run;
    auto const before = read_state(control);
    if (!before) throw std::runtime_error(before.error());
    Model model;
    model.begin(before->rows, before->orders);
    play(model, run);
    auto const after = read_state(control);
    if (!after) throw std::runtime_error(after.error());
    model.finish(after->rows, after->orders);
    run.finding = model.finding();
    run.alive = true;
    return run;
  }
  load::Run users() {
    return judged([this](Model& model, load::Run& run) { run.users = run_users(plan, model); });
  }
  load::Run pair(PlannedFault const& fault) {
    return judged([&](Model& model, load::Run& run) {
      run.pair = run_pair(plan, fault, model);
      run.users = run.pair->users;
    });
  }

  Plan plan;

 private:
  HttpServer http_;
  Service service_;
  std::thread thread_;
};

// The paper's experiment: users 1 and 7 crash, 3, 9, 12 and 18 buy.
load::Run paper(ServiceOptions const& options, PlannedFault one, PlannedFault seven, std::uint64_t seed) {
  Server server(options);
  server.plan.users = 20;
  server.plan.buyers = {3, 9, 12, 18};
  server.plan.faults = {{1, one}, {7, seven}};
  server.plan.seed = seed;
  return server.users();
}

std::string text_of(load::Run const& run) {
  return to_json(run).dump(2);
}

FaultOutcome const& outcome(load::Run const& run, std::uint64_t user) {
  return *run.users[user - 1].fault;
}

TEST(BookstoreRecovered, IsMonitored) {
  EXPECT_EQ(srs_active(), 1);
}

TEST(BookstoreRecovered, TwoOfTwentyCrashAndNobodyElseNotices) {
  // Few runs: each takes 40 of the 1024 thread slots, which this monitor never takes back.
  for (std::size_t i = 0; i < std::size(kCaught); ++i) {
    PlannedFault const one{kCaught[i], kPoints[i % 5]};
    PlannedFault const seven{kCaught[(i + 4) % std::size(kCaught)], kPoints[(i + 2) % 5]};
    load::Run const run = paper({}, one, seven, i + 1);
    ASSERT_TRUE(passed(run)) << text_of(run);
    EXPECT_EQ(to_json(run)["crashed"], 2);
    for (std::uint64_t user : {1, 7}) {
      EXPECT_EQ(outcome(run, user).status, 500);
      EXPECT_EQ(outcome(run, user).committed, false);
      EXPECT_EQ(outcome(run, user).found, false);
    }
  }
}

TEST(BookstoreRecovered, WhatFollowsTheAnswerDoesNotUndoThePurchase) {
  load::Run const run = paper({}, {Kind::store, Point::sent}, {Kind::divide, Point::sent}, 1);
  ASSERT_TRUE(passed(run)) << text_of(run);
  for (std::uint64_t user : {1, 7}) EXPECT_EQ(outcome(run, user).status, 200);
}

TEST(BookstoreRecovered, ReleaseKeepsWhatWasFinalAndTheUserIsToldSo) {
  ServiceOptions options;
  options.isolation = SRS_RELEASE;
  for (Point const at : kPoints) {
    load::Run const run = paper(options, {Kind::store, at}, {Kind::illegal, at}, 1);
    ASSERT_TRUE(passed(run)) << name_of(at) << text_of(run);
    if (at == Point::sent) continue;
    EXPECT_EQ(outcome(run, 1).status, 500);
    EXPECT_EQ(outcome(run, 1).committed, at == Point::after) << name_of(at);
    EXPECT_EQ(outcome(run, 1).found, at == Point::after) << name_of(at);
  }
}

TEST(BookstoreRecovered, EverySeedOfCrowdedFaults) {
  // Every user faults once, everybody buys, stock runs out.
  ServiceOptions options;
  options.books = 2;
  options.stock = 40;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Server server(options);
    server.plan.users = 12;
    server.plan.seed = seed;
    for (std::uint64_t user = 1; user <= 12; ++user) {
      server.plan.buyers.insert(user);
      server.plan.faults[user] = {kCaught[(user + seed) % std::size(kCaught)], kPoints[(user * seed) % 5]};
    }
    load::Run const run = server.users();
    ASSERT_TRUE(passed(run)) << text_of(run);
    EXPECT_EQ(to_json(run)["faults_sent"], 12);
  }
}

TEST(BookstoreRecovered, HoldKeepsAPurchaseOfTheSameBookOutUntilTheAbort) {
  ServiceOptions options;
  options.isolation = SRS_HOLD;
  Server server(options);
  load::Run const run = server.pair({Kind::store, Point::between, 300});
  EXPECT_TRUE(passed(run)) << text_of(run);
  EXPECT_EQ(run.pair->others_begun, 1u);
  EXPECT_EQ(run.pair->others_done, 0u);
  EXPECT_GE(run.pair->waited_ms, 300u);
  EXPECT_EQ(outcome(run, 1).committed, false);
}

TEST(BookstoreRecovered, TrackLetsItByAndTheJudgeSeesWhatThatCosts) {
  ServiceOptions options;
  options.isolation = SRS_TRACK;
  Server server(options);
  load::Run const run = server.pair({Kind::store, Point::between, 5000});
  EXPECT_TRUE(run.pair->met);
  EXPECT_EQ(run.pair->others_done, 1u);
  EXPECT_LT(run.pair->waited_ms, 5000u);
  EXPECT_FALSE(passed(run)) << text_of(run);
  EXPECT_GE(run.finding.lost_updates + run.finding.wrong_answers, 1u);
}

TEST(BookstoreRecovered, WithoutUndoTheJudgeFailsTheRun) {
  for (Point const at : {Point::mid, Point::torn}) {
    fake::host().keep_stores = true;
    load::Run const run = paper({}, {Kind::store, at}, {Kind::illegal, at}, 1);
    fake::host().keep_stores = false;
    EXPECT_FALSE(passed(run)) << name_of(at) << text_of(run);
    EXPECT_GE(run.finding.lost_updates + run.finding.wrong_answers, 1u) << name_of(at);
  }
}

}  // namespace
