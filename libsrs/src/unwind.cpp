#include "libsrs/src/unwind.hpp"

#include <unwind.h>

#include <ctime>

#include "libsrs/src/landing.hpp"
#include "libsrs/src/log_note.hpp"
#include "libsrs/src/request.hpp"

namespace srs::lib {

namespace {

__thread _Unwind_Exception passing __attribute__((tls_model("initial-exec")));

// How long destructors may run: a scope of theirs, with a deadline.
constexpr uint64_t kDestructorsNs = 1000000000;

uint64_t target_of(Thread const* t) {
  return t->slot->depth - 1;
}

// A handler caught the unwinding and did not pass it on: the scope is over all the same.
void on_caught(_Unwind_Reason_Code, _Unwind_Exception*) {
  Thread* const t = thread_if_known();
  if (t != nullptr && t->unwinding) unwind_end(t);
}

_Unwind_Reason_Code stop(int, _Unwind_Action actions, _Unwind_Exception_Class, _Unwind_Exception*, _Unwind_Context*,
                         void* argument) {
  if ((actions & _UA_END_OF_STACK) == 0) return _URC_NO_REASON;
  auto* const t = static_cast<Thread*>(argument);
  uint32_t const at = t->unwind_at;
  if (at <= target_of(t)) unwind_end(t);
  t->unwind_at = at - 1;  // a nested scope's frames are done: its caller's are next
  srs_unwind_from_(&t->slot->landings[at], t);
}

}  // namespace

void unwind_end(Thread* t) {
  uint64_t const index = target_of(t);
  {
    Critical critical(t);
    commit_owner(t, t->scopes[index].outer);
  }
  srs_land_(&t->slot->landings[index], index);
}

}  // namespace srs::lib

using namespace srs::lib;

extern "C" void srs_unwind_here_(Thread* t) {
  passing = {};
  passing.exception_class = UINT64_C(0x5352532d444e5500);  // "SRS-UND"
  passing.exception_cleanup = on_caught;
  _Unwind_ForcedUnwind(&passing, stop, t);
  unwind_end(t);  // frames without unwind tables
}

extern "C" void srs_unwind_pad_(uint64_t index) {
  Thread* const t = thread_if_known();
  if (t == nullptr || index >= SRS_MAX_DEPTH || index >= t->slot->depth) die("unwinding without a scope");
  srs_slot* const slot = t->slot;
  t->unwind_depth = static_cast<uint32_t>(slot->depth);
  t->unwind_at = t->unwind_depth - 1;
  t->undone.shrink(0);
  after_abort(t, static_cast<uint32_t>(index), true);
  // The destructors' own scope: what they store is kept, and if one of them faults it lands.
  srs_scope_info& info = slot->scopes[index];
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  info.policy = SRS_LAND;
  info.deadline_ns =
      static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec) + kDestructorsNs;
  set_owner(slot, t->scopes[index].outer);
  srs_landing& landing = slot->landings[index];
  landing.owner = srs_owner(slot->index, slot->next_number);
  info.first_number = slot->next_number;
  t->landing = false;
  landing.check = srs_landing_check(&landing, slot->key);
  begin_owner(t, info.isolation);
  slot->depth = index + 1;
  own_stack_set(t, slot->depth);
  t->unwinding = true;
  slot->critical = 0;
  srs_unwind_here_(t);
}
