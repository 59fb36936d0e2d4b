// UDFs that do what they say: one of each result type, and an aggregate. They know nothing of libsrs or the shim.
#include <mariadb/mysql.h>

#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define UDF extern "C" __attribute__((visibility("default")))

namespace {

bool wants(UDF_ARGS const* args, unsigned count, Item_result type, char* message, char const* usage) {
  bool good = args->arg_count == count;
  for (unsigned i = 0; i < args->arg_count; ++i) {
    args->arg_type[i] = type;
  }
  if (!good) std::snprintf(message, 80, "usage: %s", usage);
  return good;
}

}  // namespace

// udf_words(text) → INTEGER: how many words it has.
UDF my_bool udf_words_init(UDF_INIT*, UDF_ARGS* args, char* message) {
  return !wants(args, 1, STRING_RESULT, message, "udf_words(text)");
}
UDF long long udf_words(UDF_INIT*, UDF_ARGS* args, char* is_null, char*) {
  if (args->args[0] == nullptr) {
    *is_null = 1;
    return 0;
  }
  long long words = 0;
  bool inside = false;
  for (unsigned long i = 0; i < args->lengths[0]; ++i) {
    bool const space = std::isspace(static_cast<unsigned char>(args->args[0][i])) != 0;
    if (!space && !inside) ++words;
    inside = !space;
  }
  return words;
}

// udf_half(number) → REAL
UDF my_bool udf_half_init(UDF_INIT*, UDF_ARGS* args, char* message) {
  return !wants(args, 1, REAL_RESULT, message, "udf_half(number)");
}
UDF double udf_half(UDF_INIT*, UDF_ARGS* args, char* is_null, char*) {
  if (args->args[0] == nullptr) {
    *is_null = 1;
    return 0;
  }
  double x;
  std::memcpy(&x, args->args[0], sizeof x);
  return x / 2;
}

// udf_reversed(text) → STRING: in the server's buffer if it fits, else in one that lives as long as the statement.
UDF my_bool udf_reversed_init(UDF_INIT* init, UDF_ARGS* args, char* message) {
  init->ptr = nullptr;
  init->max_length = 65535;
  return !wants(args, 1, STRING_RESULT, message, "udf_reversed(text)");
}
UDF char* udf_reversed(UDF_INIT* init, UDF_ARGS* args, char* result, unsigned long* length, char* is_null,
                       char* error) {
  char const* const text = args->args[0];
  unsigned long const n = args->lengths[0];
  if (text == nullptr) {
    *is_null = 1;
    return nullptr;
  }
  if (n > 255) {
    char* const larger = static_cast<char*>(std::realloc(init->ptr, n));
    if (larger == nullptr) {
      *error = 1;
      return nullptr;
    }
    init->ptr = result = larger;
  }
  for (unsigned long i = 0; i < n; ++i) result[i] = text[n - 1 - i];
  *length = n;
  return result;
}
UDF void udf_reversed_deinit(UDF_INIT* init) {
  std::free(init->ptr);
}

// udf_product(number) → REAL, an aggregate.
UDF my_bool udf_product_init(UDF_INIT* init, UDF_ARGS* args, char* message) {
  if (!wants(args, 1, REAL_RESULT, message, "udf_product(number)")) return 1;
  init->ptr = static_cast<char*>(std::malloc(sizeof(double)));
  return init->ptr == nullptr;
}
UDF void udf_product_clear(UDF_INIT* init, char*, char*) {
  double const one = 1;
  std::memcpy(init->ptr, &one, sizeof one);
}
UDF void udf_product_add(UDF_INIT* init, UDF_ARGS* args, char*, char*) {
  if (args->args[0] == nullptr) return;
  double x, product;
  std::memcpy(&x, args->args[0], sizeof x);
  std::memcpy(&product, init->ptr, sizeof product);
  product *= x;
  std::memcpy(init->ptr, &product, sizeof product);
}
UDF double udf_product(UDF_INIT* init, UDF_ARGS*, char*, char*) {
  double product;
  std::memcpy(&product, init->ptr, sizeof product);
  return product;
}
UDF void udf_product_deinit(UDF_INIT* init) {
  std::free(init->ptr);
}

// udf_blocks() → INTEGER: blocks of memory that UDFs hold; -1 without the shim.
extern "C" __attribute__((weak)) uint64_t mysql_shim_live_blocks();
UDF my_bool udf_blocks_init(UDF_INIT* init, UDF_ARGS* args, char* message) {
  init->const_item = 0;
  return !wants(args, 0, INT_RESULT, message, "udf_blocks()");
}
UDF long long udf_blocks(UDF_INIT*, UDF_ARGS*, char*, char*) {
  return mysql_shim_live_blocks != nullptr ? static_cast<long long>(mysql_shim_live_blocks()) : -1;
}
