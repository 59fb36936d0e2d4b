// What the clients share: the tables, the functions, and what must be in the tables at the end.
#ifndef EXAMPLES_MYSQL_SHIM_LOAD_BANK_HPP
#define EXAMPLES_MYSQL_SHIM_LOAD_BANK_HPP

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "examples/mysql-shim/load/session.hpp"

namespace mysql_shim::load {

constexpr int kAccounts = 32, kMoney = 1000, kOwnRows = 5;

// The failing functions that cost their statement and nothing else (udf/failing.cpp, udf/shared.cpp); string: their
// result's type.
struct Kind {
  char const* name;
  bool string = false;
};
inline constexpr std::array kKinds = {
    Kind{"null_read"},  Kind{"recursion"},  Kind{"division"},    Kind{"abort"},        Kind{"loop"},
    Kind{"exception"},  Kind{"freed_read"}, Kind{"freed_twice"}, Kind{"overrun"},      Kind{"wild_write"},
    Kind{"code_write"}, Kind{"half_done"},  Kind{"init"},        Kind{"result", true}, Kind{"length", true},
};

// What one client did, and what it was answered.
struct Tally {
  uint64_t statements = 0, crashes = 0, commits = 0, rollbacks = 0, visits = 0;
  uint64_t lost = 0;  // statements that failed although they had done nothing wrong
  bool connection_lost = false;
  std::map<std::string, uint64_t> crashes_of;   // kind → how many
  std::vector<std::string> wrong;               // answers that are not as they must be, in words
  std::array<int64_t, kAccounts + 1> booked{};  // by committed transactions, per account
  std::vector<double> honest_ms, crash_ms;      // time of statements that call a UDF; loops left out
};

// Creates database `trial` anew, its tables for this many clients, and the functions. Throws std::runtime_error.
void prepare(Session& session, unsigned clients);
// What is not as it must be when all clients are done. `visits`: udf_visits() before them.
std::vector<std::string> judge(Session& session, std::vector<Tally> const& tallies, int64_t visits,
                               std::map<std::string, std::string>& check_table);

}  // namespace mysql_shim::load

#endif
