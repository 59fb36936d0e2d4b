#include "libsrs/src/landing.hpp"

#include <unistd.h>

#include "libsrs/src/debts.hpp"
#include "libsrs/src/heap.hpp"
#include "libsrs/src/locks.hpp"
#include "libsrs/src/log_note.hpp"
#include "libsrs/src/request.hpp"
#include "libsrs/src/stack_pool.hpp"

namespace srs::lib {

void after_abort(Thread* t, uint32_t index, bool remember) {
  srs_slot* const slot = t->slot;
  slot->pending = 0;
  slot->waiting_for = 0;
  if (t->stripe != nullptr) {
    t->stripe->store(0, std::memory_order_release);
    t->stripe = nullptr;
  }
  if (!t->landing) {
    if (slot->critical != 0) t->tainted = true;
    t->action_at = t->action_count = 0;
    t->landing = true;
  }
  slot->critical = 1;  // a deadline waits until this is done
  constexpr uint32_t kAtOnce = sizeof t->actions / sizeof t->actions[0];
  for (;;) {
    while (t->action_at < t->action_count) {
      srs_action const action = t->actions[t->action_at];
      t->action_at = t->action_at + 1;  // if it faults the next landing goes on with the next one
      std::atomic_signal_fence(std::memory_order_seq_cst);
      auto* const what = reinterpret_cast<void*>(action.arg);
      if (remember && action.kind != SRS_ACT_CLOSE) t->undone.push(what);
      switch (action.kind) {
        case SRS_ACT_FREE:
          heap_retire(t, what);
          break;
        case SRS_ACT_UNLOCK:
          locks_undo(t, what, static_cast<uint32_t>(action.detail));
          break;
        case SRS_ACT_CLOSE:
          close(static_cast<int>(action.arg));
          break;
        default:
          die("the monitor asks for an action that this library does not know");
      }
    }
    if (t->action_count != 0 && t->action_count < kAtOnce) break;
    long const n = hypercall(SRS_HC_LANDED, t->actions, kAtOnce);
    if (n <= 0) break;
    t->action_at = 0;
    t->action_count = n < kAtOnce ? static_cast<uint32_t>(n) : kAtOnce;
  }
  heap_abort(t, index);
  debts_abort(t, index, remember);
  locks_abort(t, index, remember);
}

}  // namespace srs::lib

using namespace srs::lib;

extern "C" uint64_t srs_landed_(uint64_t index) {
  Thread* const t = thread_if_known();
  if (t == nullptr || index >= SRS_MAX_DEPTH) die("landed without a scope");
  srs_slot* const slot = t->slot;
  srs_landing const landing = slot->landings[index];
  if (landing.check != srs_landing_check(&landing, slot->key)) die("a landing record was damaged");
  uint64_t const live = t->unwinding ? t->unwind_depth : slot->depth;
  after_abort(t, static_cast<uint32_t>(index), false);
  Scope const& scope = t->scopes[index];
  set_owner(slot, scope.outer);
  slot->depth = index;
  own_stack_set(t, index);
  t->unwinding = false;
  t->landing = false;
  t->undone.shrink(0);
  exceptions_put_back(&scope);
  for (uint64_t i = index; i < live && i < SRS_MAX_DEPTH; ++i) stack_give(t, t->scopes[i].stack);
  if (index == 0) slot_private(slot)->epoch = 0;
  heap_flush(t);
  __asm__ volatile("fninit\n\tfldcw %0" : : "m"(scope.x87_control));
  __asm__ volatile("ldmxcsr %0" : : "m"(scope.mxcsr));
  hypercall(SRS_HC_LANDED, nullptr, 0);
  slot->critical = 0;
  return landing.rip;
}
