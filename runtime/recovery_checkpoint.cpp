// Recovery's part of a checkpoint.
#include <csignal>

#include "runtime/recovery.hpp"
#include "runtime/recovery_state.hpp"
#include "runtime/store/store.hpp"

namespace vmsrs::runtime {
namespace {

vmm::Result<void> of_store(store::Error const& error) {
  return vmm::fail(vmm::Errc::kHostCall, error.message);
}

}  // namespace

vmm::Result<void> Recovery::prepare_checkpoint() {
  if (rescue_) {
    return vmm::fail(vmm::Errc::kNotCheckpointable, "a guest under --rescue=guarded cannot be checkpointed");
  }
  if (!attached_) return {};
  if (shadowed_) {
    return vmm::fail(vmm::Errc::kNotCheckpointable, "a guest that has declared logged ranges cannot be checkpointed");
  }
  bool busy = false, effects = false;
  process_->for_each_thread([&](vmm::Thread& thread) {
    ThreadState const* const state = state_of(thread);
    busy = busy || (state != nullptr &&
                    (state->landing || state->run != nullptr || state->range_open || !state->actions.empty()));
    effects = effects || (state != nullptr && !state->effects.can_be_saved());
  });
  if (effects) return vmm::fail(vmm::Errc::kBusy, "a request keeps files as they were, for its undo");
  if (busy) return vmm::fail(vmm::Errc::kBusy, "a request has faulted and its thread has not landed yet");
  {
    // Pages that wait for their words get them.
    std::lock_guard lock(abort_mutex_);
    restorer_.sweep(UINT64_MAX);
  }
  tell_finished();
  if (auto drained = store_->drain_all(); !drained) return of_store(drained.error());
  return {};
}

vmm::Result<std::vector<std::byte>> Recovery::save_checkpoint() {
  RecoveryState state;
  state.attached = attached_;
  state.store_mode = options_.store;
  state.landing_pad = landing_pad_;
  state.unwind_pad = unwind_pad_;
  state.run_pad = run_pad_;
  state.abort_message = abort_message_;
  {
    std::lock_guard lock(profiled_mutex_);
    state.profiled = profiled_;
  }
  state.slots = slots_.save();
  // The monitor and the store process write slots through addresses of their own.
  if (attached_) memory_.mark_written(vmm::GuestAddr(slots_.base()), slots_.used_bytes());
  process_->for_each_thread([&](vmm::Thread& thread) {
    ThreadState const* const s = state_of(thread);
    if (s == nullptr) return;
    RecoveryState::Thread t;
    t.tid = thread.tid();
    t.slot = s->slot;
    t.actions = s->actions;
    t.last_fault = s->last_fault;
    t.effects = s->effects.save();
    t.masks = s->masks;
    t.held = s->held.save(thread.fds());
    t.output_sent = s->output_sent;
    t.output_number = s->output_number;
    t.answer_number = s->answer_number;
    t.lock_cycles = s->lock_cycles;
    t.forced_kind = s->forced_kind;
    t.forced_owner = s->forced_owner;
    t.forced = thread.fault_forced();
    t.aborted_owner = s->aborted_owner;
    state.threads.push_back(std::move(t));
  });
  if (attached_) {
    auto words = store_->save();
    if (!words) return vmm::fail(vmm::Errc::kHostCall, words.error().message);
    state.store = std::move(*words);
  }
  return encode(state);
}

vmm::Result<void> Recovery::restore_threads(vmm::Process& process) {
  std::unique_ptr<RecoveryState> const saved = std::move(restored_);
  if (!saved) return {};
  landing_pad_ = saved->landing_pad;
  unwind_pad_ = saved->unwind_pad;
  run_pad_ = saved->run_pad;
  abort_message_ = saved->abort_message;
  profiled_ = saved->profiled;
  for (RecoveryState::Thread const& t : saved->threads) {
    auto state = std::make_unique<ThreadState>();
    state->slot = t.slot;
    state->actions = t.actions;
    state->last_fault = t.last_fault;
    state->effects.load(t.effects);
    state->masks = t.masks;
    state->held.load(t.held, process.fds());
    state->output_sent = t.output_sent;
    state->output_number = t.output_number;
    state->answer_number = t.answer_number;
    state->lock_cycles = t.lock_cycles;
    state->forced_kind = t.forced_kind;
    state->forced_owner = t.forced_owner;
    state->aborted_owner = t.aborted_owner;
    bool const there = process.with_thread(t.tid, [&](vmm::Thread& thread) {
      thread.user_data = state.release();
      if (t.forced) thread.force_fault(SIGXCPU);
    });
    if (!there) return vmm::fail(vmm::Errc::kBadCheckpoint, "a thread of recovery that the guest does not have");
  }
  if (!saved->attached) return {};
  attached_ = true;
  if (options_.policy == SRS_RUN) (void)process.view();
  start_watch();
  return {};
}

}  // namespace vmsrs::runtime
