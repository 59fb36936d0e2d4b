// One symbol of a UDF library that MariaDB has asked for.
#ifndef EXAMPLES_MYSQL_SHIM_FUNCTION_HPP
#define EXAMPLES_MYSQL_SHIM_FUNCTION_HPP

#include <cstdint>
#include <string>

namespace mysql_shim {

// What the symbol is to MariaDB, by its name: NAME, NAME_init, NAME_deinit; NAME_clear, _reset, _add and _remove of an
// aggregate.
enum class Role : uint8_t { kRow, kInit, kDeinit, kStep };

struct Function {
  std::string library;  // path
  std::string symbol;
  std::string name;  // the SQL function's
  Role role = Role::kRow;
  void* target = nullptr;  // the library's own code; changes when the library is loaded again
};

// The function with this number. Functions are never removed: MariaDB may call one as long as it lives.
Function const& function(uint64_t number);

}  // namespace mysql_shim

#endif
