#include "examples/mysql-shim/load/session.hpp"

#include <mariadb/mysql.h>

#include <stdexcept>

namespace mysql_shim::load {

std::string Answer::value() const {
  return rows.size() == 1 && rows[0].size() == 1 ? rows[0][0] : "";
}

void Session::Close::operator()(st_mysql* link) const {
  mysql_close(link);
}

Session::Session(std::string const& socket, std::string const& database) : link_(mysql_init(nullptr)) {
  unsigned const seconds = 60;
  mysql_options(link_.get(), MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
  mysql_options(link_.get(), MYSQL_OPT_READ_TIMEOUT, &seconds);
  if (mysql_real_connect(link_.get(), nullptr, "root", "", database.empty() ? nullptr : database.c_str(), 0,
                         socket.c_str(), 0) == nullptr) {
    throw std::runtime_error("connect to " + socket + ": " + mysql_error(link_.get()));
  }
}

Answer Session::query(std::string const& sql) {
  Answer answer;
  auto const failed = [&] {
    answer.error = mysql_errno(link_.get());
    answer.message = mysql_error(link_.get());
    return answer;
  };
  if (mysql_real_query(link_.get(), sql.data(), sql.size()) != 0) return failed();
  MYSQL_RES* const result = mysql_store_result(link_.get());
  if (result == nullptr) {
    if (mysql_errno(link_.get()) != 0) return failed();
    answer.affected = mysql_affected_rows(link_.get());
    return answer;
  }
  unsigned const columns = mysql_num_fields(result);
  while (MYSQL_ROW const row = mysql_fetch_row(result)) {
    unsigned long const* const lengths = mysql_fetch_lengths(result);
    Row& to = answer.rows.emplace_back();
    for (unsigned i = 0; i < columns; ++i)
      to.emplace_back(row[i] != nullptr ? std::string(row[i], lengths[i]) : "NULL");
  }
  mysql_free_result(result);
  if (mysql_errno(link_.get()) != 0) return failed();
  return answer;
}

}  // namespace mysql_shim::load
