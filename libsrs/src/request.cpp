// Request scopes: begin, run on a stack of their own, commit.
#include "libsrs/src/request.hpp"

#include <srs/srs.h>

#include <cerrno>
#include <ctime>

#include "libsrs/src/client.hpp"
#include "libsrs/src/debts.hpp"
#include "libsrs/src/heap.hpp"
#include "libsrs/src/locks.hpp"
#include "libsrs/src/log_note.hpp"
#include "libsrs/src/stack_pool.hpp"

namespace srs::lib {
namespace {

bool resolve(srs_options const* options, srs_scope_info* info, uint64_t* stack_size) {
  srs_options const o = options != nullptr ? *options : srs_options SRS_OPTIONS_INIT;
  int64_t const isolation = o.isolation == SRS_DEFAULT ? attach_info.isolation : o.isolation;
  int64_t const policy = o.policy == SRS_DEFAULT ? attach_info.policy : o.policy;
  uint64_t const size = o.stack_size == 0 ? kStackDefault : (uint64_t{o.stack_size} + 4095) & ~UINT64_C(4095);
  if (isolation < SRS_HOLD || isolation > SRS_TRACK || policy < SRS_LAND || policy > SRS_RUN || size < kStackLeast ||
      size > kStackMost || o.on_fault < SRS_CLIENT_KEEP || o.on_fault > SRS_CLIENT_ANSWER)
    return false;
  info->isolation = static_cast<uint32_t>(isolation);
  info->policy = static_cast<uint32_t>(policy);
  info->user = o.user;
  info->flags = o.commit_on_send != 0 ? SRS_SCOPE_COMMIT_ON_SEND : 0;
  info->deadline_ns = 0;
  if (o.deadline_ms != 0) {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t const ns = static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
    if (__builtin_mul_overflow(o.deadline_ms, UINT64_C(1000000), &info->deadline_ns) ||
        __builtin_add_overflow(info->deadline_ns, ns, &info->deadline_ns))
      info->deadline_ns = 0;  // beyond the clock: no limit
  }
  *stack_size = size;
  return true;
}

// slot->critical is raised already.
void commit(Thread* t, uint64_t depth) {
  Scope& scope = t->scopes[depth];
  commit_owner(t, scope.outer);
  t->slot->depth = depth;
  own_stack_set(t, depth);
  if (depth == 0) slot_private(t->slot)->epoch = 0;
  heap_commit(t, static_cast<uint32_t>(depth));
  locks_commit(t, static_cast<uint32_t>(depth));
  debts_commit(t, static_cast<uint32_t>(depth));
  stack_give(t, scope.stack);
  if (depth == 0) {
    heap_flush(t);
    if (t->slot->wants_commit != 0) hypercall(SRS_HC_DRAIN);
  }
}

}  // namespace
}  // namespace srs::lib

using namespace srs::lib;

// The registers of the way back are in the landing record now; the scope begins.
extern "C" void srs_scope_opened_(Run* run) {
  Thread* const t = run->thread;
  srs_slot* const slot = t->slot;
  slot->critical = slot->critical + 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  Scope& scope = t->scopes[run->depth];
  __asm__ volatile("stmxcsr %0" : "=m"(scope.mxcsr));
  __asm__ volatile("fnstcw %0" : "=m"(scope.x87_control));
  srs_landing& landing = *run->landing;
  landing.stack_low = scope.stack.low;
  landing.stack_high = scope.stack.low + scope.stack.size;
  landing.owner = srs_owner(slot->index, slot->next_number);
  slot->scopes[run->depth].first_number = slot->next_number;
  landing.check = srs_landing_check(&landing, slot->key);
  locks_begin(t);
  if (run->depth == 0) slot_private(slot)->epoch = heap_epoch();
  scope.outer = begin_owner(t, slot->scopes[run->depth].isolation);
  scope.bare = false;
  scope.stores_begun = stores_of(t);
  exceptions_save(&scope);
  t->stores_renewed = stores_of(t);
  slot->depth = run->depth + 1;
  own_stack_set(t, slot->depth);
}

extern "C" enum srs_status srs_request(void (*fn)(void*), void* arg, struct srs_options const* options) {
  Thread* const t = thread();
  srs_scope_info info;
  uint64_t stack_size;
  if (fn == nullptr || !resolve(options, &info, &stack_size)) {
    errno = EINVAL;
    return SRS_REFUSED;
  }
  if (t == nullptr) {
    fn(arg);
    return SRS_OK;
  }
  uint64_t const depth = t->slot->depth;
  if (depth >= SRS_MAX_DEPTH) {
    errno = E2BIG;
    return SRS_REFUSED;
  }
  Stack const stack = stack_take(t, stack_size);
  if (stack.low == 0) {
    errno = ENOMEM;
    return SRS_REFUSED;
  }
  t->scopes[depth].stack = stack;
  t->scopes[depth].memory_limit = options != nullptr ? options->memory_limit : 0;
  t->scopes[depth].allocated = 0;
  Client const client = client_of(options);
  t->slot->scopes[depth] = info;
  Run run{fn, arg, stack.low + stack.size, &t->slot->landings[depth], &t->slot->critical, t, depth};
  if (srs_run_scope_(&run) != 0) {
    client_told(client);
    return SRS_FAULTED;
  }
  if (restricted()) hypercall(SRS_HC_RUN, SRS_RUN_END);  // lands, in the main memory
  commit(t, depth);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  t->slot->critical = t->slot->critical - 1;
  return SRS_OK;
}
