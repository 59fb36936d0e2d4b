// One connection to MariaDB, which is never opened again: a lost one is what the load looks for.
#ifndef EXAMPLES_MYSQL_SHIM_LOAD_SESSION_HPP
#define EXAMPLES_MYSQL_SHIM_LOAD_SESSION_HPP

#include <memory>
#include <string>
#include <vector>

struct st_mysql;

namespace mysql_shim::load {

using Row = std::vector<std::string>;  // NULL is "NULL"

struct Answer {
  unsigned error = 0;  // MariaDB's number; 2000 to 2999: the connection's
  std::string message;
  std::vector<Row> rows;
  unsigned long long affected = 0;

  [[nodiscard]] bool good() const { return error == 0; }
  [[nodiscard]] bool lost() const { return error >= 2000 && error < 3000; }
  // The only value, or "" if there is not just one.
  [[nodiscard]] std::string value() const;
};

// For one thread at a time.
class Session {
 public:
  // Throws std::runtime_error if it cannot be connected to.
  explicit Session(std::string const& socket, std::string const& database = "");
  Answer query(std::string const& sql);

 private:
  struct Close {
    void operator()(st_mysql* link) const;
  };
  std::unique_ptr<st_mysql, Close> link_;
};

}  // namespace mysql_shim::load

#endif
