#include "libsrs/src/fault.hpp"

#include <srs/srs.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <typeinfo>

#include "libsrs/src/log_note.hpp"
#include "libsrs/src/thread.hpp"
#include "libsrs/src/unwind.hpp"

// Weak: a C program has no C++ runtime, and this library does not bring one.
extern "C" {
__attribute__((weak)) std::terminate_handler _ZSt13set_terminatePFvvE(std::terminate_handler);
__attribute__((weak)) std::type_info* __cxa_current_exception_type();
__attribute__((weak)) void* __cxa_get_globals();
}

namespace srs::lib {

namespace {

std::terminate_handler previous;

void on_terminate() {
  Thread* const t = thread_if_known();
  if (t != nullptr && t->unwinding) unwind_end(t);  // a destructor's frame lets no unwinding through
  if (t != nullptr && in_scope(t)) {
    char why[128] = "std::terminate";
    if (__cxa_current_exception_type != nullptr) {
      std::type_info const* const type = __cxa_current_exception_type();
      if (type != nullptr) snprintf(why, sizeof why, "uncaught exception of type %s", type->name());
    }
    hypercall(SRS_HC_FAULT, SRS_FAULT_EXCEPTION, why);
  }
  if (previous != nullptr) previous();
  abort();
}

}  // namespace

void hook_terminate() {
  if (_ZSt13set_terminatePFvvE != nullptr) previous = _ZSt13set_terminatePFvvE(on_terminate);
}

namespace {
// Itanium C++ ABI: Exception Handling, 2.2.2.
struct EhGlobals {
  void* caught;
  unsigned uncaught;
};
}  // namespace

void exceptions_save(Scope* scope) {
  if (__cxa_get_globals == nullptr) return;
  auto const* const globals = static_cast<EhGlobals const*>(__cxa_get_globals());
  scope->caught = globals->caught;
  scope->uncaught = globals->uncaught;
}

void exceptions_put_back(Scope const* scope) {
  if (__cxa_get_globals == nullptr) return;
  auto* const globals = static_cast<EhGlobals*>(__cxa_get_globals());
  globals->caught = scope->caught;
  globals->uncaught = scope->uncaught;
}

void report_fault(srs_fault_kind kind, char const* why) {
  if (srs_process_.active || restricted()) {
    thread();
    if (hypercall(SRS_HC_FAULT, kind, why) == 0) return;
  }
  die(why);
}

}  // namespace srs::lib

using namespace srs::lib;

extern "C" void srs_crash_suppression_os(enum srs_fault_kind kind) {
  if (kind <= SRS_FAULT_NONE || kind >= SRS_FAULT_KINDS) kind = SRS_FAULT_REPORTED;
  report_fault(kind, "the program reports a fault of its own");
}

extern "C" int srs_last_fault(struct srs_fault_info* info) {
  if (info == nullptr || thread() == nullptr) return 0;
  *info = {};
  return hypercall(SRS_HC_FAULT_INFO, info) == 0 && info->kind != SRS_FAULT_NONE;
}
