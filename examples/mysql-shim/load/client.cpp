#include "examples/mysql-shim/load/client.hpp"

#include <fmt/format.h>
#include <mariadb/mysqld_error.h>

#include <chrono>
#include <stdexcept>

namespace mysql_shim::load {
namespace {

struct Lost {};

double milliseconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - then).count();
}

}  // namespace

Client::Client(std::string const& socket, unsigned number, uint64_t seed)
    : number_(number), session_(socket, "trial"), random_(seed * 1000 + number) {
  connection_ = session_.query("SELECT CONNECTION_ID()").value();
}

void Client::run(unsigned transactions, unsigned crashing, std::atomic<bool>& stop) {
  try {
    for (unsigned i = 0; i < transactions && !stop; ++i) transaction(i < crashing);
  } catch (Lost const&) {
    tally_.connection_lost = true;
    stop = true;
  }
}

// A statement that does nothing wrong.
Answer Client::ask(std::string const& sql) {
  auto const begin = std::chrono::steady_clock::now();
  Answer answer = session_.query(sql);
  tally_.statements += 1;
  if (sql.find("udf_") != std::string::npos) tally_.honest_ms.push_back(milliseconds_since(begin));
  if (answer.good()) return answer;
  tally_.lost += 1;
  tally_.wrong.push_back(fmt::format("client {}: {}: error {} {}", number_, sql, answer.error, answer.message));
  if (answer.lost()) throw Lost{};
  return answer;
}

void Client::expect(std::string const& sql, std::string const& wanted) {
  Answer const answer = ask(sql);
  if (answer.good() && answer.value() != wanted)
    tally_.wrong.push_back(fmt::format("client {}: {}: {}, not {}", number_, sql, answer.value(), wanted));
}

void Client::transaction(bool with_crash) {
  int from = static_cast<int>(random_() % kAccounts) + 1, to = static_cast<int>(random_() % kAccounts) + 1;
  if (from == to) to = to % kAccounts + 1;
  auto const money = static_cast<int64_t>(random_() % 50);
  int64_t const sign = from < to ? 1 : -1;  // rows are locked in their order: no deadlocks among the honest
  int const low = std::min(from, to), high = std::max(from, to);
  std::string const text = fmt::format("transfer {} of client {}", done_, number_);
  ask("START TRANSACTION");
  ask(fmt::format("UPDATE account SET money = money - udf_half({}) WHERE id = {}", 2 * money * sign, low));
  ask(fmt::format("INSERT INTO journal VALUES ({}, {}, udf_reversed('{}'))", number_, done_, text));
  ask(fmt::format("UPDATE own{} SET n = n + 1", number_));
  if (with_crash) crash();
  expect(fmt::format("SELECT udf_reversed(text) FROM journal WHERE client = {} AND number = {}", number_, done_), text);
  expect(fmt::format("SELECT SUM(n) FROM own{}", number_), fmt::format("{}", kOwnRows * (tally_.commits + 1)));
  ask(fmt::format("UPDATE account SET money = money + {} WHERE id = {}", money * sign, high));
  if (ask("SELECT udf_visit()").good()) tally_.visits += 1;
  expect("SELECT udf_words('four words in it')", "4");
  if (random_() % 5 == 0) {
    ask("ROLLBACK");
    tally_.rollbacks += 1;
  } else if (ask("COMMIT").good()) {
    tally_.commits += 1;
    tally_.booked[from] -= money;
    tally_.booked[to] += money;
  }
  done_ += 1;
}

// One statement that must fail, alone: the connection, and what the transaction has done before, stay.
void Client::crash() {
  Kind const& kind = kKinds[(done_ + number_) % kKinds.size()];
  std::string const call = fmt::format("fail_{}", kind.name);
  std::string sql;
  switch (random_() % 4) {
    case 0:
      sql = fmt::format("SELECT {}(-1)", call);
      break;
    case 1:  // after it has changed some rows
      sql = fmt::format("UPDATE own{} SET n = n + CHAR_LENGTH({}(IF(id = 4, -1, 1)))", number_, call);
      break;
    case 2:
      sql = fmt::format("INSERT INTO journal SELECT {}, seq + 1000000, {}(IF(seq = 3, -1, 1)) FROM seq_1_to_5", number_,
                        call);
      break;
    default:
      sql = fmt::format("DELETE FROM own{} WHERE CHAR_LENGTH({}(IF(id = 4, -1, 1))) > 0", number_, call);
      break;
  }
  // Its initialisation gets to see arguments that are constant only.
  if (std::string_view(kind.name) == "init") sql = fmt::format("UPDATE own{} SET n = n + fail_init(-1)", number_);
  auto const begin = std::chrono::steady_clock::now();
  Answer const answer = session_.query(sql);
  tally_.crashes += 1;
  tally_.crashes_of[kind.name] += 1;
  if (std::string_view(kind.name) != "loop") tally_.crash_ms.push_back(milliseconds_since(begin));
  if (answer.lost()) {
    tally_.wrong.push_back(fmt::format("client {}: {}: error {} {}", number_, sql, answer.error, answer.message));
    throw Lost{};
  }
  unsigned const wanted = std::string_view(kind.name) == "init" ? ER_CANT_INITIALIZE_UDF : ER_UNKNOWN_ERROR;
  if (answer.error != wanted || answer.message.find(call) == std::string::npos)
    tally_.wrong.push_back(
        fmt::format("client {}: {}: {} {}, not error {}", number_, sql, answer.error, answer.message, wanted));
  expect("SELECT CONNECTION_ID()", connection_);
  expect("SELECT @@in_transaction", "1");
}

}  // namespace mysql_shim::load
