// SRS_SCOPE=thread: each thread that the program makes is one scope, as in the paper (one thread per user). And the end
// of a thread from within a scope.
#include <dlfcn.h>
#include <pthread.h>
#include <srs/srs.h>
#include <unwind.h>

#include <cerrno>
#include <cstdlib>

#include "libsrs/src/log_note.hpp"
#include "libsrs/src/request.hpp"
#include "libsrs/src/thread.hpp"

namespace srs::lib {
namespace {

struct Start {
  void* (*fn)(void*);
  void* arg;
  void* result;
};
__thread Start* running __attribute__((tls_model("initial-exec")));
__thread _Unwind_Exception leaving __attribute__((tls_model("initial-exec")));
constexpr size_t kThreadStack = 8 << 20;

void run(void* raw) {
  auto* const start = static_cast<Start*>(raw);
  start->result = start->fn(start->arg);
}

// A thread that faulted ends with a null result.
void* thread_main(void* raw) {
  Start start = *static_cast<Start*>(raw);
  free(raw);
  running = &start;
  srs_options options SRS_OPTIONS_INIT;
  options.stack_size = kThreadStack;
  srs_status const status = srs_request(run, &start, &options);
  running = nullptr;
  if (status == SRS_REFUSED) die("no memory for the stack of a thread's scope");
  return status == SRS_OK ? start.result : nullptr;
}

// As if fn had returned.
[[noreturn]] void leave(Thread* t) {
  t->slot->critical = t->slot->critical + 1;  // as srs_run_scope_ does
  srs_leave_(&t->slot->landings[0]);
}

_Unwind_Reason_Code at_end(int, _Unwind_Action actions, _Unwind_Exception_Class, _Unwind_Exception*, _Unwind_Context*,
                           void* argument) {
  if ((actions & _UA_END_OF_STACK) != 0) leave(static_cast<Thread*>(argument));
  return _URC_NO_REASON;
}

void* real_of(char const* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) die("the C library lacks a pthread function");
  return found;
}

}  // namespace
}  // namespace srs::lib

using namespace srs::lib;

extern "C" SRS_API int pthread_create(pthread_t* thread_id, pthread_attr_t const* attr, void* (*fn)(void*), void* arg) {
  using function = int (*)(pthread_t*, pthread_attr_t const*, void* (*)(void*), void*);
  static function real;
  if (real == nullptr) real = reinterpret_cast<function>(real_of("pthread_create"));
  if (!srs_process_.active || attach_info.scope_thread == 0) return real(thread_id, attr, fn, arg);
  auto* const start = static_cast<Start*>(malloc(sizeof(Start)));
  if (start == nullptr) return EAGAIN;
  *start = {fn, arg, nullptr};
  int const result = real(thread_id, attr, thread_main, start);
  if (result != 0) free(start);
  return result;
}

// Inside the thread's own scope: the destructors run, the scope commits, the thread ends with this result. Inside any
// other it is a fault, since whoever called srs_request would never hear of it.
extern "C" SRS_API void pthread_exit(void* result) {
  using function = void (*)(void*);
  static function real;
  if (real == nullptr) real = reinterpret_cast<function>(real_of("pthread_exit"));
  Thread* const t = thread_if_known();
  if (t != nullptr && in_scope(t)) {
    if (running != nullptr && t->slot->depth == 1) {
      running->result = result;
      leaving = {};
      leaving.exception_class = UINT64_C(0x5352532d454e4400);  // "SRS-END"
      _Unwind_ForcedUnwind(&leaving, at_end, t);
      leave(t);  // frames without unwind tables
    }
    report_fault(SRS_FAULT_ABORT, "pthread_exit inside a request scope");
  }
  real(result);
  abort();
}
