// One client: transactions that move money, each with one statement that crashes in the middle.
#ifndef EXAMPLES_MYSQL_SHIM_LOAD_CLIENT_HPP
#define EXAMPLES_MYSQL_SHIM_LOAD_CLIENT_HPP

#include <atomic>
#include <random>
#include <string>

#include "examples/mysql-shim/load/bank.hpp"
#include "examples/mysql-shim/load/session.hpp"

namespace mysql_shim::load {

class Client {
 public:
  Client(std::string const& socket, unsigned number, uint64_t seed);
  // So many transactions, the first `crashing` of them with a crash; ends early when `stop` is set, and sets it when
  // its connection is lost.
  void run(unsigned transactions, unsigned crashing, std::atomic<bool>& stop);
  [[nodiscard]] Tally const& tally() const { return tally_; }

 private:
  Answer ask(std::string const& sql);
  void expect(std::string const& sql, std::string const& wanted);
  void transaction(bool with_crash);
  void crash();

  unsigned number_;
  Session session_;
  std::mt19937_64 random_;
  std::string connection_;
  uint64_t done_ = 0;
  Tally tally_;
};

}  // namespace mysql_shim::load

#endif
