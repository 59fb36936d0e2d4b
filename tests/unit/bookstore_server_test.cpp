// links: bookstore_programs bookstore_users
// The real server as an ordinary process: right without faults, dead at the first one, and the users
// notice both. Everything on loopback, on a port that the kernel picks.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "examples/bookstore/load/client.hpp"
#include "examples/bookstore/load/report.hpp"
#include "examples/bookstore/load/spawn.hpp"
#include "examples/bookstore/load/users.hpp"

namespace {

using namespace bookstore;
using namespace bookstore::load;
using namespace std::chrono_literals;
using nlohmann::json;

SpawnedServer server(std::vector<std::string> options) {
  options.insert(options.begin(), {BOOKSTORE_SERVER, "--port", "0"});
  auto started = SpawnedServer::start(options, 20s);
  if (!started) throw std::runtime_error(started.error());
  return std::move(*started);
}

Client client(SpawnedServer const& server, std::chrono::milliseconds timeout = 5s) {
  return Client(server.host(), server.port(), 1, timeout);
}

json purchase(std::string const& request, std::uint64_t book = 0) {
  return {{"request", request}, {"user", 1}, {"book", book}, {"copies", 2}};
}

Plan plan_for(SpawnedServer const& server) {
  Plan plan;
  plan.host = server.host();
  plan.port = server.port();
  plan.run = "t";
  plan.timeout = 30s;  // none of them hangs: on a busy machine a slow answer is not a lost one
  plan.deadline = std::chrono::steady_clock::now() + 60s;
  for (std::uint64_t user = 1; user <= plan.users; ++user) plan.buyers.insert(user);
  return plan;
}

// Runs a command, without a shell's help, and returns its exit status (-1: a signal).
int status_of(std::vector<std::string> const& command) {
  std::string line;
  for (auto const& word : command) line += "'" + word + "' ";
  int const status = std::system((line + ">/dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class BookstoreServer : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    rlimit const none{0, 0};
    // Inherited by the servers that are going to die: no core files; of their signal, AddressSanitizer or not.
    setrlimit(RLIMIT_CORE, &none);
    setenv("ASAN_OPTIONS", "handle_segv=0:handle_sigill=0:handle_sigfpe=0", 1);
  }
};

TEST_F(BookstoreServer, TwentyUsersWithoutFaultsGetRightAnswersOnly) {
  for (std::uint64_t seed : {1, 2}) {
    // Little stock: some purchases must be refused, and rightly.
    auto shop = server({"--stock", "60", "--books", "4"});
    Plan plan = plan_for(shop);
    plan.requests = 40;
    plan.seed = seed;
    auto control = client(shop);
    auto const before = read_state(control);
    ASSERT_TRUE(before) << before.error();
    Model model;
    model.begin(before->rows, before->orders);
    load::Run run;
    run.users = run_users(plan, model);
    auto const after = read_state(control);
    ASSERT_TRUE(after) << after.error();
    model.finish(after->rows, after->orders);
    run.finding = model.finding();
    run.alive = true;
    run.exit = shop.stop(10s);
    EXPECT_TRUE(passed(run)) << to_json(run).dump(2);
    json const j = to_json(run);
    EXPECT_EQ(j["wrong_answers"], 0);
    EXPECT_EQ(j["lost_updates"], 0);
    EXPECT_GE(j["requests"], 20 * 40);
    EXPECT_GT(j["purchases"], 50);
    EXPECT_GT(j["sold_out"], 0);
  }
}

TEST_F(BookstoreServer, AFaultKillsItNativelyAndTheLoadSaysSo) {
  std::string const file = testing::TempDir() + "bookstore_native_" + std::to_string(getpid());
  EXPECT_EQ(status_of({BOOKSTORE_LOAD, "--paper", "--seed", "5", "--patience", "200", "--json", file, "--spawn", "--",
                       BOOKSTORE_SERVER, "--port", "0", "--inject"}),
            1);
  std::ifstream in(file);
  json const j = json::parse(in, nullptr, false);
  std::remove(file.c_str());
  ASSERT_TRUE(j.is_object());
  EXPECT_EQ(j["passed"], false);
  EXPECT_EQ(j["users"], 20);
  EXPECT_EQ(j["server_died"], true);
  EXPECT_EQ(j["judged_to_the_end"], false);
  EXPECT_EQ(j["server_exit"]["by_itself"], true);
  EXPECT_GE(j["crashed"], 1);
  EXPECT_GE(j["connections_lost_without_fault"], 10);
  int const signal = j["server_exit"]["signal"];
  EXPECT_TRUE(signal == SIGSEGV || signal == SIGABRT) << signal;
}

TEST_F(BookstoreServer, TheLoadPassesARunWithoutFaultsAndEndsItsServer) {
  EXPECT_EQ(
      status_of({BOOKSTORE_LOAD, "--users", "5", "--requests", "10", "--spawn", "--", BOOKSTORE_SERVER, "--port", "0"}),
      0);
}

TEST_F(BookstoreServer, ARestartIsSeenAndItsLostOrdersToo) {
  auto first = server({});
  std::string const port = std::to_string(first.port());
  Plan plan = plan_for(first);
  plan.requests = 1000000;
  plan.users = 4;
  plan.patience = 5s;
  plan.deadline = std::chrono::steady_clock::now() + 2s;
  auto control = client(first);
  std::string const instance = instance_of(control);
  auto const before = read_state(control);
  ASSERT_TRUE(before);
  Model model;
  model.begin(before->rows, before->orders);
  std::thread users([&] { run_users(plan, model); });
  std::this_thread::sleep_for(500ms);
  first.stop(5s);
  auto const second = SpawnedServer::start({BOOKSTORE_SERVER, "--port", port}, 20s);
  users.join();
  ASSERT_TRUE(second) << second.error();
  std::string const now = instance_of(control);
  EXPECT_FALSE(now.empty());
  EXPECT_NE(now, instance);
  // Whatever was bought from the first server is gone from the second, and the judge says so.
  auto const after = read_state(control);
  ASSERT_TRUE(after) << after.error();
  model.finish(after->rows, after->orders);
  EXPECT_GT(model.finding().lost_updates, 0u);
  EXPECT_GT(model.finding().acknowledged, 0u);
}

struct Death {
  char const* kind;
  int signal;
};

class BookstoreFault : public BookstoreServer, public testing::WithParamInterface<Death> {};

TEST_P(BookstoreFault, IsRealAndKillsAnUnprotectedServer) {
  auto shop = server({"--inject"});
  auto buyer = client(shop);
  json body = purchase("f");
  body["fault"] = {{"kind", GetParam().kind}, {"at", "mid"}};
  EXPECT_TRUE(buyer.post("/buy", body).lost());
  // The process may be dying still: asked to stop, it must not end well.
  ServerExit const exit = shop.stop(10s);
  EXPECT_TRUE(exit.by_itself) << exit.text();
  EXPECT_EQ(exit.signal, GetParam().signal) << exit.text();
}

INSTANTIATE_TEST_SUITE_P(Kinds, BookstoreFault,
                         testing::Values(Death{"load", SIGSEGV}, Death{"store", SIGSEGV}, Death{"hole", SIGSEGV},
                                         Death{"call", SIGSEGV}, Death{"noncanonical", SIGSEGV},
                                         Death{"divide", SIGFPE}, Death{"illegal", SIGILL}, Death{"stack", SIGSEGV},
                                         Death{"abort", SIGABRT}, Death{"assert", SIGABRT}, Death{"exception", SIGABRT},
                                         Death{"reported", SIGABRT}, Death{"pointer", SIGABRT}),
                         [](auto const& info) { return std::string(info.param.kind); });

class BookstoreHang : public BookstoreServer, public testing::WithParamInterface<char const*> {};

TEST_P(BookstoreHang, HoldsItsLockForEverAndTheStopIsBounded) {
  auto shop = server({"--inject"});
  auto buyer = client(shop, 300ms);
  json body = purchase("f");
  body["fault"] = {{"kind", GetParam()}, {"at", "mid"}};
  EXPECT_TRUE(buyer.post("/buy", body).lost());
  EXPECT_TRUE(buyer.get("/books/0").lost()) << "the book's lock is held by the hanging purchase";
  EXPECT_EQ(client(shop).get("/books/1").status, 200);
  ServerExit const exit = shop.stop(10s);
  EXPECT_EQ(exit.status, 1) << exit.text();
  EXPECT_FALSE(exit.killed);
}

INSTANTIATE_TEST_SUITE_P(Kinds, BookstoreHang, testing::Values("deadline", "sleep", "deadlock"),
                         [](auto const& info) { return std::string(info.param); });

class BookstorePoint : public testing::TestWithParam<char const*> {};

TEST_P(BookstorePoint, StrikesWhereItSays) {
  std::string const at = GetParam();
  for (std::string const answer : {"after", "send"}) {
    auto shop = server({"--inject", "--answer", answer});
    auto buyer = client(shop);
    json body = purchase("f");
    body["fault"] = {{"kind", "abort"}, {"at", at}};
    Reply const reply = buyer.post("/buy", body);
    if (at == "sent") {
      EXPECT_EQ(reply.status, 200) << "the answer was written before the fault";
    } else {
      EXPECT_TRUE(reply.lost());
    }
    EXPECT_TRUE(shop.stop(10s).by_itself);
  }
}

INSTANTIATE_TEST_SUITE_P(Points, BookstorePoint, testing::Values("before", "mid", "between", "torn", "after", "sent"),
                         [](auto const& info) { return std::string(info.param); });

TEST_F(BookstoreServer, APausedPurchaseSeesAnotherOneOfTheSameBookGoBy) {
  auto shop = server({"--inject"});
  Plan const plan = plan_for(shop);
  auto control = client(shop);
  auto const before = read_state(control);
  ASSERT_TRUE(before);
  Model model;
  model.begin(before->rows, before->orders);
  PairOutcome const pair = run_pair(plan, {Kind::none, Point::between, 5000}, model);
  EXPECT_TRUE(pair.met);
  EXPECT_EQ(pair.others_begun, 1u);
  EXPECT_EQ(pair.others_done, 1u) << "natively the book's lock is free between the sections";
  EXPECT_LT(pair.waited_ms, 5000u);
  auto const after = read_state(control);
  ASSERT_TRUE(after);
  model.finish(after->rows, after->orders);
  EXPECT_EQ(model.finding().wrong_answers, 0u);
  EXPECT_EQ(model.finding().lost_updates, 0u);
  EXPECT_EQ(model.finding().acknowledged, 2u);
}

TEST_F(BookstoreServer, TellsWhatIsWrongWithARequest) {
  auto shop = server({"--books", "2"});
  auto buyer = client(shop);
  auto const refused = [&](json body, int status, std::string const& why) {
    Reply const reply = buyer.post("/buy", body);
    EXPECT_EQ(reply.status, status) << body;
    EXPECT_NE(reply.body.value("error", "").find(why), std::string::npos) << reply.body;
  };
  refused("text", 400, "not a JSON object");
  refused(json::object(), 400, "\"request\"");
  refused({{"request", "a"}, {"user", -1}, {"book", 0}, {"copies", 1}}, 400, "\"user\"");
  refused({{"request", "a"}, {"user", 1}, {"book", 2}, {"copies", 1}}, 400, "no such book");
  refused({{"request", "a"}, {"user", 1}, {"book", 0}, {"copies", 0}}, 400, "\"copies\"");
  refused({{"request", std::string(40, 'x')}, {"user", 1}, {"book", 0}, {"copies", 1}}, 400, "bytes");
  json faulty = purchase("a");
  faulty["fault"] = {{"kind", "store"}};
  refused(faulty, 403, "--inject");
  EXPECT_EQ(buyer.get("/books/2").status, 404);
  EXPECT_EQ(buyer.get("/books/x").status, 404);
  EXPECT_EQ(buyer.get("/orders").status, 400);
  EXPECT_EQ(buyer.get("/orders/unknown").status, 404);
  EXPECT_EQ(buyer.get("/nothing").status, 404);
  EXPECT_EQ(buyer.post("/buy", purchase("a")).status, 200);
  refused(purchase("a", 1), 409, "another order");
  EXPECT_EQ(shop.stop(10s).status, 0);
}

TEST_F(BookstoreServer, RefusesFaultsThatItDoesNotKnow) {
  auto shop = server({"--inject"});
  auto buyer = client(shop);
  for (json const& fault : {json("store"), json{{"kind", "nonsense"}}, json{{"kind", "store"}, {"at", "nowhere"}},
                            json{{"kind", "store"}, {"wait_ms", 99999}}}) {
    json body = purchase("a");
    body["fault"] = fault;
    EXPECT_EQ(buyer.post("/buy", body).status, 400) << fault;
  }
  EXPECT_EQ(shop.stop(10s).status, 0);
}

TEST_F(BookstoreServer, StopsCleanlyWithConnectionsOpen) {
  for (int signal : {SIGTERM, SIGINT}) {
    auto shop = server({});
    auto idle = client(shop);
    EXPECT_EQ(idle.get("/healthz").status, 200);
    ServerExit const exit = shop.stop(10s, signal);
    EXPECT_EQ(exit.status, 0) << exit.text();
    EXPECT_FALSE(exit.by_itself);
  }
}

TEST_F(BookstoreServer, SaysThatItsPortIsInUse) {
  auto shop = server({});
  auto const second = SpawnedServer::start({BOOKSTORE_SERVER, "--port", std::to_string(shop.port())}, 20s);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().find("exit status 1"), std::string::npos) << second.error();
}

TEST_F(BookstoreServer, BadOptionsAreRefused) {
  EXPECT_EQ(status_of({BOOKSTORE_SERVER, "--port", "70000"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_SERVER, "--books", "0"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_SERVER, "--answer", "never"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_SERVER, "--host", "not an address"}), 1);
  EXPECT_EQ(status_of({BOOKSTORE_LOAD, "--faults", "1:nonsense"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_LOAD, "--faults", "21"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_LOAD, "--faults", "1,1"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_LOAD, "--buyers", "0"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_LOAD, "--spawn"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_LOAD, "--spawn", "--", "/nonexistent"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_LOAD, "--spawn", "--", "false"}), 2);
  EXPECT_EQ(status_of({BOOKSTORE_LOAD, "--port", "1"}), 2);
}

}  // namespace
