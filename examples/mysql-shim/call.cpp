// One call of a UDF, in a request scope: what thunks.S calls.
#include <dlfcn.h>
#include <mariadb/mysql.h>
#include <mariadb/mysqld_error.h>
#include <srs/srs.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "examples/mysql-shim/function.hpp"
#include "examples/mysql-shim/heap.hpp"
#include "examples/mysql-shim/result_buffer.hpp"

namespace mysql_shim {
namespace {

// Both registers that a result may be in: a structure of an integer and a double comes back in rax and xmm0.
struct Result {
  uint64_t integer;
  double real;
};
using Word = uint64_t;
using Target = Result (*)(Word, Word, Word, Word, Word, Word);

uint64_t setting(char const* name, uint64_t otherwise) {
  char const* const text = std::getenv(name);
  if (text == nullptr) return otherwise;
  char* end = nullptr;
  uint64_t const value = std::strtoull(text, &end, 10);
  return end != text && *end == 0 ? value : otherwise;
}

// A UDF of MariaDB may count on most of a connection's stack, which is 292 KiB there.
uint64_t const kStack = setting("MYSQL_SHIM_STACK_KB", 512) << 10;
uint64_t const kDeadline = setting("MYSQL_SHIM_DEADLINE_MS", 5000);

// MariaDB makes its buffer this large if `length` says less (MAX_FIELD_WIDTH).
constexpr unsigned long kRoomAlways = 766;

struct Call {
  Function const& function;
  Word args[6];
  Result result;
  char* buffer;        // the UDF's string result goes there, in place of MariaDB's buffer; null: not a string
  unsigned long room;  // bytes in it
  Ledger ledger;       // of blocks that the call allocates
  Damage damage;       // worst of them, when it is over
  srs_status status;
  uint64_t connection;
};

template <class F>
F server_function(char const* name) {
  return reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
}

// The connection that is served, for the report: MariaDB's CONNECTION_ID().
uint64_t connection() {
  static auto const current = server_function<void* (*)()>("_current_thd");
  static auto const id_of = server_function<unsigned long (*)(void const*)>("thd_get_thread_id");
  void const* const thd = current != nullptr && id_of != nullptr ? current() : nullptr;
  return thd != nullptr ? id_of(thd) : 0;
}

// The call itself, and what can be judged before it is final.
void run(void* p) {
  Call& c = *static_cast<Call*>(p);
  c.result =
      reinterpret_cast<Target>(c.function.target)(c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5]);
  if (c.buffer != nullptr && c.result.integer != 0) {
    // MariaDB is going to read all of it, outside any scope: what cannot be read faults here.
    auto const* text = reinterpret_cast<char const volatile*>(c.result.integer);
    unsigned long const length = *reinterpret_cast<unsigned long const*>(c.args[3]);
    for (unsigned long i = 0; i < length; i += 4096) (void)text[i];
    if (length != 0) (void)text[length - 1];
  }
  if (damage(c.ledger) != Damage::kNone) srs_crash_suppression_os(SRS_FAULT_POINTER);
}

// Holds on to what an aborted call has allocated until it was looked at.
void run_and_look(void* p) {
  Call& c = *static_cast<Call*>(p);
  srs_options options = SRS_OPTIONS_INIT;
  options.deadline_ms = kDeadline;
  options.stack_size = kStack;
  options.user = c.connection;
  note_in(&c.ledger);
  c.status = srs_request(run, &c, &options);
  note_in(nullptr);
  c.damage = damage(c.ledger);
}

// MariaDB's own, an exported function of the server: sets the error of the current statement.
void raise(char const* text) {
  using Printf = void (*)(unsigned, char const*, unsigned long, ...);
  static auto const my_printf_error = server_function<Printf>("my_printf_error");
  if (my_printf_error != nullptr) my_printf_error(ER_UNKNOWN_ERROR, "%s", 0, text);
}

Result failed(Call const& c) {
  char text[MYSQL_ERRMSG_SIZE];
  srs_fault_info info{};
  if (c.status == SRS_REFUSED) {
    snprintf(text, sizeof text, "function %s could not be run: no memory for a scope", c.function.name.c_str());
  } else {
    srs_last_fault(&info);
    snprintf(text, sizeof text, "function %s failed and was undone: %s", c.function.name.c_str(), info.what);
  }
  switch (c.function.role) {
    case Role::kInit:  // MariaDB makes an error of the message
      snprintf(reinterpret_cast<char*>(c.args[2]), 200, "%.199s", text);
      return {1, 0};
    case Role::kDeinit:  // the statement has its answer already
      fprintf(stderr, "mysql-shim: %s\n", text);
      return {0, 0};
    case Role::kRow:
    case Role::kStep:
      raise(text);
      break;
  }
  return {0, 0};
}

// A row function of INTEGER or REAL is called as f(init, args, is_null, error), one of STRING as f(init, args, result,
// length, is_null, error). MariaDB keeps is_null and error of the former in the object that holds `init`; `length` is
// a local variable.
bool gives_string(Function const& f, Word const* args) {
  return f.role == Role::kRow && args[3] - args[0] >= 256;
}

}  // namespace
}  // namespace mysql_shim

using namespace mysql_shim;

extern "C" __attribute__((visibility("hidden"))) Result mysql_shim_call_(Word a, Word b, Word c, Word d, Word e, Word f,
                                                                         Word number) {
  Call call{function(number), {a, b, c, d, e, f}, {}, nullptr, 0, {}, Damage::kNone, SRS_REFUSED, connection()};
  char* const own = reinterpret_cast<char*>(c);
  unsigned long length = 0;
  if (gives_string(call.function, call.args)) {
    length = *reinterpret_cast<unsigned long const*>(d);
    call.room = std::max(length, kRoomAlways);
    call.buffer = result_buffer(call.room);
    if (call.buffer != nullptr) {
      call.args[2] = reinterpret_cast<Word>(call.buffer);
      call.args[3] = reinterpret_cast<Word>(&length);
    }
  }
  if (srs_request(run_and_look, &call, nullptr) != SRS_OK) call.status = SRS_REFUSED;
  if (call.damage == Damage::kThrough) {
    fprintf(stderr,
            "mysql-shim: function %s of %s has written behind the end of its memory, over everything that would "
            "have shown where it stopped: the server's own memory may be hit, and it ends here\n",
            call.function.symbol.c_str(), call.function.library.c_str());
    abort();  // outside every scope: what restarts the server comes from outside
  }
  if (call.status != SRS_OK) return failed(call);
  if (call.buffer != nullptr) {
    uint64_t const at = call.result.integer - reinterpret_cast<uint64_t>(call.buffer);
    if (call.result.integer != 0 && at <= call.room && length <= call.room - at) {
      std::memcpy(own + at, call.buffer + at, length);
      call.result.integer = reinterpret_cast<uint64_t>(own + at);
    }
    *reinterpret_cast<unsigned long*>(d) = length;
  }
  return call.result;
}
