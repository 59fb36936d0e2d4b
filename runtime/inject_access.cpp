// What fault injection asks of recovery (runtime/inject): where a thread is, which memory is monitored, and a store
// that the thread's own log knows of.
#include <cstring>

#include "runtime/recovery.hpp"

namespace vmsrs::runtime {

Recovery::ThreadView Recovery::look_at(vmm::Thread& thread) const {
  ThreadView view;
  view.in_request = rescue_ != nullptr && Rescue::serving(thread);
  ThreadState const* const state = state_of(thread);
  if (state == nullptr) return view;
  srs_slot const* const slot = slots_.host(state->slot);
  view.slot = slots_.address(state->slot);
  view.ring = slots_.ring(state->slot);
  view.head = __atomic_load_n(&slot->head, __ATOMIC_ACQUIRE);
  view.critical = __atomic_load_n(&slot->critical, __ATOMIC_RELAXED) != 0;
  view.storing = __atomic_load_n(&slot->pending, __ATOMIC_RELAXED) != 0;
  view.in_scope = __atomic_load_n(&slot->depth, __ATOMIC_ACQUIRE) != 0 && !state->landing && thread.view() == nullptr;
  view.in_request |= view.in_scope;
  return view;
}

std::vector<vmm::GuestRange> Recovery::monitored() {
  std::lock_guard const lock(profiled_mutex_);
  return profiled_;
}

bool Recovery::logged_write(vmm::Thread& thread, vmm::GuestAddr at, uint64_t value) {
  ThreadState const* const state = state_of(thread);
  ThreadView const view = look_at(thread);
  if (state == nullptr || !view.in_scope || view.storing || view.critical) return false;
  if (!store_->range_begin(state->slot, at.value, sizeof value)) return false;
  __atomic_store_n(reinterpret_cast<uint64_t*>(memory_.alias(at)), value, __ATOMIC_RELAXED);
  return store_->range_done(state->slot, sizeof value).has_value();
}

}  // namespace vmsrs::runtime
