// mysql-shim-load: clients of one MariaDB server that judge it. Exit status: 0 if each crash cost its own statement
// only and all data is right, 1 if not, 2 if it could not be run.
#include <fmt/format.h>
#include <mariadb/mysql.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <deque>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "examples/mysql-shim/load/bank.hpp"
#include "examples/mysql-shim/load/client.hpp"

namespace {

using namespace mysql_shim::load;

struct Options {
  std::string socket, json;
  unsigned clients = 8, crashes = 200, transactions = 0;
  uint64_t seed = 1;
};

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  auto const middle = values.begin() + static_cast<long>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

int run(Options const& options) {
  auto const begin = std::chrono::steady_clock::now();
  auto const seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  Session judge_session(options.socket);
  prepare(judge_session, options.clients);
  auto const number = [&](std::string const& sql) { return std::atoll(judge_session.query(sql).value().c_str()); };
  std::string const uptime =
      "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'";
  long long const visits = number("SELECT udf_visits()");
  double const up_before = static_cast<double>(number(uptime)) - seconds();

  std::deque<Client> clients;
  for (unsigned i = 0; i < options.clients; ++i) clients.emplace_back(options.socket, i, options.seed);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < options.clients; ++i) {
    unsigned const crashing = options.crashes / options.clients + (i < options.crashes % options.clients ? 1 : 0);
    unsigned const transactions = std::max(options.transactions, crashing);
    threads.emplace_back([&, i, crashing, transactions] {
      mysql_thread_init();
      clients[i].run(transactions, crashing, stop);
      mysql_thread_end();
    });
  }
  for (std::thread& thread : threads) thread.join();

  std::vector<Tally> tallies;
  tallies.reserve(clients.size());
  for (Client const& client : clients) tallies.push_back(client.tally());
  Tally all;
  uint64_t connections_lost = 0;
  for (Tally const& t : tallies) {
    all.statements += t.statements;
    all.crashes += t.crashes;
    all.commits += t.commits;
    all.rollbacks += t.rollbacks;
    all.lost += t.lost;
    connections_lost += t.connection_lost ? 1 : 0;
    for (auto const& [kind, n] : t.crashes_of) all.crashes_of[kind] += n;
    all.wrong.insert(all.wrong.end(), t.wrong.begin(), t.wrong.end());
    all.honest_ms.insert(all.honest_ms.end(), t.honest_ms.begin(), t.honest_ms.end());
    all.crash_ms.insert(all.crash_ms.end(), t.crash_ms.begin(), t.crash_ms.end());
  }
  std::map<std::string, std::string> check_table;
  auto const wrong = judge(judge_session, tallies, visits, check_table);
  bool const died = connections_lost != 0 || judge_session.query("SELECT 1").lost();
  // Uptime goes on if nobody restarted the server; whole seconds.
  int const restarts = !died && static_cast<double>(number(uptime)) + 2 < up_before + seconds() ? 1 : 0;
  all.wrong.insert(all.wrong.end(), wrong.begin(), wrong.end());
  if (restarts != 0) all.wrong.emplace_back("the server was restarted");
  for (size_t i = 0; i < all.wrong.size() && i < 10; ++i) fmt::print(stderr, "mysql-shim-load: {}\n", all.wrong[i]);
  bool const passed = all.wrong.empty() && !died && all.crashes == options.crashes;
  nlohmann::json const result = {{"clients", options.clients},
                                 {"statements", all.statements},
                                 {"transactions", all.commits + all.rollbacks},
                                 {"committed", all.commits},
                                 {"crashes", all.crashes},
                                 {"crashes_by_kind", all.crashes_of},
                                 {"statements_lost_by_others", all.lost},
                                 {"connections_lost", connections_lost},
                                 {"server_died", died},
                                 {"restarts", restarts},
                                 {"check_table", check_table},
                                 {"wrong", all.wrong},
                                 {"udf_statement_ms", median(all.honest_ms)},
                                 {"crash_statement_ms", median(all.crash_ms)},
                                 {"seconds", seconds()},
                                 {"passed", passed}};
  if (!options.json.empty()) std::ofstream(options.json) << result.dump(1) << '\n';
  fmt::print("{} clients, {} statements, {} crashes, {} statements lost by others, {} wrong answers\n", options.clients,
             all.statements, all.crashes, all.lost, all.wrong.size());
  return passed ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Clients of a MariaDB server with the UDFs of examples/mysql-shim, who crash it and judge it.");
  Options options;
  app.add_option("--socket", options.socket, "of the server")->required();
  app.add_option("--clients", options.clients, "default 8")->check(CLI::Range(1, 64));
  app.add_option("--crashes", options.crashes, "of all clients together, default 200; one in a transaction");
  app.add_option("--transactions", options.transactions, "of each client, if more than its crashes");
  app.add_option("--seed", options.seed, "of all that is random");
  app.add_option("--json", options.json, "write the result to a file");
  CLI11_PARSE(app, argc, argv);
  if (mysql_library_init(0, nullptr, nullptr) != 0) return 2;
  try {
    return run(options);
  } catch (std::exception const& error) {
    fmt::print(stderr, "mysql-shim-load: {}\n", error.what());
    return 2;
  }
}
