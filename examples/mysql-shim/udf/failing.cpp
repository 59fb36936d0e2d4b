// UDFs that fail, each in one way: fail_KIND(n) gives n if it is not negative, and fails if it is. Each has a block of
// memory and a lock at that moment. Compiled without optimisation: a fault must strike where the source says.
#include <mariadb/mysql.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>

#define UDF extern "C" __attribute__((visibility("default")))

namespace {

std::mutex lock;

struct Node {
  Node* next;
  long long value;
};

long long argument(UDF_ARGS const* args) {
  long long n = 0;
  if (args->arg_count == 1 && args->args[0] != nullptr) std::memcpy(&n, args->args[0], sizeof n);
  return n;
}

my_bool check(UDF_ARGS* args, char* message) {
  if (args->arg_count != 1) {
    std::strcpy(message, "one number is wanted");
    return 1;
  }
  args->arg_type[0] = INT_RESULT;
  return 0;
}

// What an honest function would have in hand when it goes wrong.
template <class F>
long long busy(UDF_ARGS* args, F fail) {
  long long const n = argument(args);
  if (n >= 0) return n;
  void* const block = std::malloc(1000);
  long long result;
  {
    std::lock_guard const hold(lock);
    result = fail();
  }
  std::free(block);
  return result;
}

int recurse(int depth) {
  char volatile frame[256];
  frame[0] = static_cast<char>(depth);
  return recurse(depth + 1) + frame[0];
}

}  // namespace

#define FAILING(kind, ...)                                                        \
  UDF my_bool fail_##kind##_init(UDF_INIT* init, UDF_ARGS* args, char* message) { \
    init->const_item = 0;                                                         \
    return check(args, message);                                                  \
  }                                                                               \
  UDF long long fail_##kind(UDF_INIT*, UDF_ARGS* args, char*, char*) {            \
    return busy(args, []() -> long long { __VA_ARGS__ });                         \
  }

FAILING(null_read, return *static_cast<long long volatile*>(nullptr);)
FAILING(recursion, return recurse(0);)
FAILING(noncanonical, *reinterpret_cast<long long volatile*>(0x8000'1234'0000'0000) = 1; return 0;)
FAILING(jump, void (*volatile nowhere)() = nullptr; nowhere(); return 0;)
FAILING(division, int volatile zero = 0; return 100 / zero;)
FAILING(abort, std::abort();)
FAILING(
    loop, bool volatile for_ever = true; while (for_ever) {} return 0;)
FAILING(exception, throw std::runtime_error("nobody catches this");)
FAILING(freed_read, auto* node = static_cast<Node*>(std::malloc(sizeof(Node))); node->next = node; node->value = 1;
        std::free(node); return node->next->value;)
FAILING(freed_twice, void* block = std::malloc(40); std::free(block); std::free(block); return 0;)
// Behind the end of a block, and noticed in the red zone before anything else is hit.
FAILING(overrun, auto* text = static_cast<char*>(std::malloc(32)); std::memset(text, 1, 40); std::free(text); return 0;)
// Wild writes: where nothing is, and into the server's code.
FAILING(wild_write, auto* nowhere = reinterpret_cast<long long volatile*>(0x7f1234567890); *nowhere = 1; return 0;)
FAILING(code_write, auto* code = reinterpret_cast<long long volatile*>(&std::strlen); *code = 1; return 0;)
// So far behind the end that the next block is hit: the server has to end.
FAILING(far_overrun, auto* text = static_cast<char*>(std::malloc(32)); std::memset(text, 1, 512); std::free(text);
        return 0;)

// In the name's own initialisation.
UDF my_bool fail_init_init(UDF_INIT*, UDF_ARGS* args, char* message) {
  if (check(args, message)) return 1;
  if (args->args[0] == nullptr || argument(args) >= 0) return 0;
  return *static_cast<char volatile*>(nullptr);
}
UDF long long fail_init(UDF_INIT*, UDF_ARGS* args, char*, char*) {
  return argument(args);
}

// A string result that is longer than the buffer, and one of a length that is not there.
UDF my_bool fail_result_init(UDF_INIT* init, UDF_ARGS* args, char* message) {
  init->const_item = 0;
  return check(args, message);
}
UDF char* fail_result(UDF_INIT*, UDF_ARGS* args, char* result, unsigned long* length, char*, char*) {
  bool const bad = argument(args) < 0;
  std::memset(result, 'x', bad ? *length + 1000 : 10);
  *length = 10;
  return result;
}
UDF my_bool fail_length_init(UDF_INIT* init, UDF_ARGS* args, char* message) {
  init->const_item = 0;
  return check(args, message);
}
UDF char* fail_length(UDF_INIT*, UDF_ARGS* args, char* result, unsigned long* length, char*, char*) {
  bool const bad = argument(args) < 0;
  std::memset(result, 'x', 10);
  *length = bad ? 1UL << 40 : 10;
  return result;
}
