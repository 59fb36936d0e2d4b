#include "examples/mysql-shim/load/bank.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace mysql_shim::load {
namespace {

void must(Session& session, std::string const& sql) {
  Answer const answer = session.query(sql);
  if (!answer.good()) throw std::runtime_error(fmt::format("{}: {} {}", sql, answer.error, answer.message));
}

}  // namespace

void prepare(Session& session, unsigned clients) {
  must(session, "CREATE DATABASE IF NOT EXISTS trial");
  must(session, "USE trial");
  auto const create = [&](char const* kind, std::string const& name, char const* type) {
    bool const shared = name.starts_with("udf_visit") || name == "fail_half_done";
    must(session, fmt::format("CREATE {} FUNCTION IF NOT EXISTS {} RETURNS {} SONAME '{}.so'", kind, name, type,
                              shared ? "udf_shared" : "udf_trial"));
  };
  for (char const* name : {"udf_words", "udf_visit", "udf_visits", "udf_blocks"}) create("", name, "INTEGER");
  create("", "udf_half", "REAL");
  create("", "udf_reversed", "STRING");
  create("AGGREGATE", "udf_product", "REAL");
  for (Kind const& kind : kKinds) create("", fmt::format("fail_{}", kind.name), kind.string ? "STRING" : "INTEGER");
  create("", "fail_far_overrun", "INTEGER");
  must(session, "DROP TABLE IF EXISTS account, journal");
  must(session, "CREATE TABLE account (id INT PRIMARY KEY, money BIGINT NOT NULL) ENGINE=InnoDB");
  must(session, fmt::format("INSERT INTO account SELECT seq, {} FROM seq_1_to_{}", kMoney, kAccounts));
  must(session,
       "CREATE TABLE journal (client INT, number INT, text VARCHAR(200), PRIMARY KEY (client, number)) ENGINE=InnoDB");
  for (unsigned i = 0; i < clients; ++i) {
    must(session,
         fmt::format("CREATE OR REPLACE TABLE own{} (id INT PRIMARY KEY, n BIGINT NOT NULL) ENGINE=InnoDB", i));
    must(session, fmt::format("INSERT INTO own{} SELECT seq, 0 FROM seq_1_to_{}", i, kOwnRows));
  }
}

std::vector<std::string> judge(Session& session, std::vector<Tally> const& tallies, int64_t visits,
                               std::map<std::string, std::string>& check_table) {
  std::vector<std::string> wrong;
  auto const expect = [&](std::string const& sql, std::string const& wanted) {
    Answer const answer = session.query(sql);
    if (!answer.good()) {
      wrong.push_back(fmt::format("{}: error {} {}", sql, answer.error, answer.message));
    } else if (answer.value() != wanted) {
      wrong.push_back(fmt::format("{}: {}, not {}", sql, answer.value(), wanted));
    }
  };
  uint64_t commits = 0;
  std::array<int64_t, kAccounts + 1> booked{};
  for (Tally const& t : tallies) {
    commits += t.commits;
    visits += static_cast<int64_t>(t.visits);
    for (int i = 1; i <= kAccounts; ++i) booked[i] += t.booked[i];
  }
  expect("SELECT SUM(money) FROM account", fmt::format("{}", kAccounts * kMoney));
  for (int i = 1; i <= kAccounts; ++i)
    expect(fmt::format("SELECT money FROM account WHERE id = {}", i), fmt::format("{}", kMoney + booked[i]));
  expect("SELECT COUNT(*) FROM journal", fmt::format("{}", commits));
  expect("SELECT udf_visits()", fmt::format("{}", visits));
  expect("SELECT udf_blocks()", "0");
  expect("SELECT COUNT(*) FROM information_schema.INNODB_TRX", "0");
  std::string tables = "account, journal";
  for (size_t i = 0; i < tallies.size(); ++i) tables += fmt::format(", own{}", i);
  Answer const checked = session.query("CHECK TABLE " + tables + " EXTENDED");
  if (checked.rows.size() < tallies.size() + 2) wrong.emplace_back("CHECK TABLE: " + checked.message);
  for (Row const& row : checked.rows) {
    check_table[row.at(0)] = row.at(3);
    if (row.at(3) != "OK") wrong.push_back(fmt::format("CHECK TABLE {}: {}", row.at(0), row.at(3)));
  }
  return wrong;
}

}  // namespace mysql_shim::load
