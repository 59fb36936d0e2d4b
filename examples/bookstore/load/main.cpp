// bookstore-load: users for the bookstore, and the judge of what they are answered.
#include <CLI/CLI.hpp>
#include <fstream>
#include <random>
#include <sstream>

#include "examples/bookstore/load/client.hpp"
#include "examples/bookstore/load/report.hpp"

namespace {

using namespace bookstore::load;
using clock_type = std::chrono::steady_clock;

constexpr int kFailed = 1;
constexpr int kUsage = 2;

int complain(std::string const& what) {
  std::fprintf(stderr, "bookstore-load: %s\n", what.c_str());
  return kUsage;
}

// "all", "none", or a list of user numbers.
tl::expected<std::set<std::uint64_t>, std::string> parse_buyers(std::string const& list, std::uint64_t users) {
  std::set<std::uint64_t> buyers;
  if (list == "none") return buyers;
  if (list == "all") {
    for (std::uint64_t user = 1; user <= users; ++user) buyers.insert(user);
    return buyers;
  }
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');) {
    char* end = nullptr;
    std::uint64_t const user = std::strtoull(item.c_str(), &end, 10);
    if (item.empty() || *end != '\0' || user == 0 || user > users)
      return tl::unexpected("--buyers: \"" + item + "\" is no user from 1 to " + std::to_string(users));
    buyers.insert(user);
  }
  return buyers;
}

Run run_against(Plan const& plan, std::optional<PlannedFault> const& pair, std::string* cannot) {
  Run run;
  run.seed = plan.seed;
  Client control(plan.host, plan.port, 0, plan.timeout);
  std::string const instance = instance_of(control);
  auto const start = read_state(control);
  if (instance.empty() || !start) {
    *cannot = "no bookstore at " + plan.host + ":" + std::to_string(plan.port) + (start ? "" : ": " + start.error());
    return run;
  }
  Model model;
  model.begin(start->rows, start->orders);

  auto const begin = clock_type::now();
  if (pair) {
    run.pair = run_pair(plan, *pair, model);
    run.users = run.pair->users;
  } else {
    run.users = run_users(plan, model);
  }
  run.seconds = std::chrono::duration<double>(clock_type::now() - begin).count();

  std::string const now = instance_of(control);
  run.alive = !now.empty();
  run.restarts = run.alive && now != instance ? 1 : 0;
  if (auto const end = read_state(control))
    model.finish(end->rows, end->orders);
  else
    run.end_error = end.error();
  run.finding = model.finding();
  return run;
}

}  // namespace

int main(int argc, char** argv) {
  Plan plan;
  std::uint64_t timeout_ms = 5000, patience_ms = 1000, seconds = 60;
  std::string faults, buyers = "all", json_file;
  std::optional<std::uint64_t> seed;
  bool paper = false, pair = false, spawn = false;
  std::vector<std::string> command;

  CLI::App app{
      "Users for the bookstore, and the judge of every answer they get.\n"
      "Exit status: 0 all right, 1 not, 2 usage or no server."};
  app.add_option("--host", plan.host)->capture_default_str();
  app.add_option("--port", plan.port)->check(CLI::Range(1, 65535))->capture_default_str();
  auto* const users = app.add_option("--users", plan.users)->check(CLI::Range(1, 500))->capture_default_str();
  app.add_option("--requests", plan.requests, "of each user")->check(CLI::Range(1, 1000000))->capture_default_str();
  app.add_option("--seed", seed, "of everything random; default: random, and reported");
  app.add_option("--faults", faults,
                 "who asks for which: user[:kind[:point[:wait_ms]]],... (default store:mid; kind "
                 "and point may be any)");
  auto* const who = app.add_option("--buyers", buyers, "all, none or a list of users")->capture_default_str();
  app.add_flag("--paper", paper,
               "20 users; 1 and 7 crash in mid-purchase (unless --faults says otherwise); 3, 9, 12 "
               "and 18 buy; the others browse")
      ->excludes(users)
      ->excludes(who);
  app.add_flag("--pair", pair,
               "two users: 1 pauses in a purchase and faults (--faults 1:kind:point:wait_ms; "
               "default 1:store:between:300), 2 buys the same book meanwhile");
  app.add_option("--timeout", timeout_ms, "ms for one request")->check(CLI::Range(10, 600000))->capture_default_str();
  app.add_option("--patience", patience_ms, "ms before a user gives up a server that is gone")
      ->check(CLI::Range(0, 600000))
      ->capture_default_str();
  app.add_option("--seconds", seconds, "the run is ended after this long")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  app.add_option("--json", json_file, "write the result here; -: to stdout");
  app.add_flag("--spawn", spawn, "start the server: -- COMMAND...; it names its own port");
  app.add_option("command", command, "after --: the server to start");
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& e) {
    return app.exit(e) == 0 ? 0 : kUsage;
  }

  plan.seed = seed ? *seed : std::random_device{}();
  if (spawn == command.empty()) return complain("--spawn and -- COMMAND... go together");
  if (paper) {
    plan.users = 20;
    buyers = "3,9,12,18";
    if (faults.empty()) faults = "1:store:mid,7:abort:torn";
  }
  if (pair) {
    plan.users = 2;
    if (faults.empty()) faults = "1:store:between:300";
  }
  auto const parsed = parse_faults(faults, plan.seed);
  if (!parsed) return complain("--faults: " + parsed.error());
  plan.faults = *parsed;
  for (auto const& [user, fault] : plan.faults)
    if (user > plan.users)
      return complain("--faults: there are " + std::to_string(plan.users) + " users, no user " + std::to_string(user));
  if (pair && (plan.faults.size() != 1 || !plan.faults.contains(1)))
    return complain("--pair: --faults must name user 1 only");
  auto const bought = parse_buyers(buyers, plan.users);
  if (!bought) return complain(bought.error());
  plan.buyers = *bought;
  plan.timeout = std::chrono::milliseconds(timeout_ms);
  plan.patience = std::chrono::milliseconds(patience_ms);
  char run_id[12];
  std::snprintf(run_id, sizeof run_id, "r%08x", std::random_device{}());
  plan.run = run_id;

  std::optional<SpawnedServer> server;
  if (spawn) {
    auto started = SpawnedServer::start(command, std::chrono::seconds(30));
    if (!started) return complain(started.error());
    server.emplace(std::move(*started));
    plan.host = server->host();
    plan.port = server->port();
  }
  plan.deadline = clock_type::now() + std::chrono::seconds(seconds);

  std::string cannot;
  Run run = run_against(plan, pair ? std::optional(plan.faults.at(1)) : std::nullopt, &cannot);
  if (server) run.exit = server->stop(std::chrono::seconds(10));
  if (!cannot.empty()) return complain(cannot);

  print(run, json_file == "-" ? stderr : stdout);
  if (json_file == "-") {
    std::printf("%s\n", to_json(run).dump(2).c_str());
  } else if (!json_file.empty()) {
    std::ofstream out(json_file);
    out << to_json(run).dump(2) << '\n';
    out.close();
    if (!out) return complain("cannot write " + json_file);
  }
  return passed(run) ? 0 : kFailed;
}
