// UDFs with state that all connections share, written through libsrs: what a call that fails has stored is undone.
#include <mariadb/mysql.h>

#include <cstring>
#include <mutex>
#include <srs/srs.hpp>

#define UDF extern "C" __attribute__((visibility("default")))

namespace {

std::mutex lock;
srs::shared<long long> first{0};
srs::shared<long long> second{0};

my_bool check(UDF_INIT* init, UDF_ARGS const* args, unsigned count, char* message) {
  init->const_item = 0;
  if (args->arg_count == count) return 0;
  std::strcpy(message, "wrong number of arguments");
  return 1;
}

// Counts a visit in two words that must stay equal. `crash`: fails between the two.
long long visit(bool crash) {
  std::lock_guard const hold(lock);
  first += 1;
  if (crash) {
    int* volatile nowhere = nullptr;
    *nowhere = 1;
  }
  second += 1;
  return second;
}

}  // namespace

// udf_visit() → INTEGER: counts one visit more.
UDF my_bool udf_visit_init(UDF_INIT* init, UDF_ARGS* args, char* message) {
  return check(init, args, 0, message);
}
UDF long long udf_visit(UDF_INIT*, UDF_ARGS*, char*, char*) {
  return visit(false);
}

// udf_visits() → INTEGER: how many, or -1 if the two words differ.
UDF my_bool udf_visits_init(UDF_INIT* init, UDF_ARGS* args, char* message) {
  return check(init, args, 0, message);
}
UDF long long udf_visits(UDF_INIT*, UDF_ARGS*, char*, char*) {
  std::lock_guard const hold(lock);
  return first == second ? static_cast<long long>(first) : -1;
}

// fail_half_done(n) → INTEGER: n; or, if it is negative, a visit that fails in the middle.
UDF my_bool fail_half_done_init(UDF_INIT* init, UDF_ARGS* args, char* message) {
  if (check(init, args, 1, message)) return 1;
  args->arg_type[0] = INT_RESULT;
  return 0;
}
UDF long long fail_half_done(UDF_INIT*, UDF_ARGS* args, char*, char*) {
  long long n = 0;
  if (args->args[0] != nullptr) std::memcpy(&n, args->args[0], sizeof n);
  return n < 0 ? visit(true) : n;
}
