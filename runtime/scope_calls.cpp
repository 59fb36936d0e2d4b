// System calls inside scopes: memory that they write into monitored ranges, fds that they open, output that they send.
#include <fcntl.h>
#include <sys/syscall.h>

#include <algorithm>

#include "runtime/recovery.hpp"

namespace vmsrs::runtime {
namespace {

bool sends(uint64_t nr) {
  return nr == SYS_write || nr == SYS_writev || nr == SYS_pwrite64 || nr == SYS_pwritev || nr == SYS_sendto ||
         nr == SYS_sendmsg || nr == SYS_sendmmsg || nr == SYS_sendfile;
}

// Whether the result is the number of bytes that the call wrote into the guest's buffers.
bool counts_bytes(uint64_t nr) {
  return nr == SYS_read || nr == SYS_pread64 || nr == SYS_readv || nr == SYS_preadv || nr == SYS_preadv2 ||
         nr == SYS_recvfrom || nr == SYS_recvmsg || nr == SYS_getrandom;
}

}  // namespace

std::optional<int64_t> Recovery::on_syscall_enter(vmm::Thread& thread, vmm::SyscallArgs const& args) {
  ThreadState* state = state_of(thread);
  if (state == nullptr) return std::nullopt;
  if (thread.view() != nullptr) return run_call(thread, *state, args);
  srs_slot* const slot = slots_.host(state->slot);
  uint64_t const depth = std::min<uint64_t>(slot->depth, SRS_MAX_DEPTH);
  bool const in_scope = depth != 0;
  if ((!state->held.empty() || state->effects.keeps_closed()) && (!in_scope || waits_for_peer(args.nr))) {
    // Committed already; or the scope is about to wait for an answer to what it said: it must leave, undone or not.
    if (!state->held.empty()) {
      state->output_sent = in_scope;
      state->output_number = in_scope ? first_number(*state, depth - 1) : 0;
      state->answer_number = state->output_number;
    }
    if (int64_t const r = let_output_go(thread, *state); r != 0) return r;
  }
  if (!in_scope) {
    if (!state->effects.empty()) state->effects.forget();
    return std::nullopt;
  }
  if (sends(args.nr)) {
    if (auto const answer = output(thread, *state, args)) return answer;
  }
  if (state->effects.before(thread, args, first_number(*state, depth - 1))) slot->wants_commit = 1;
  return std::nullopt;
}

int64_t Recovery::let_output_go(vmm::Thread& thread, ThreadState& state) {
  int64_t const r = state.held.flush(thread);
  if (r == 0) state.effects.let_closed_go();
  if (r == 0) slots_.host(state.slot)->wants_commit = 0;
  return r;
}

void Recovery::on_syscall_write(vmm::Thread& thread, vmm::GuestRange range) {
  ThreadState* state = state_of(thread);
  if (state == nullptr || slots_.host(state->slot)->depth == 0) return;
  std::vector<vmm::GuestRange> parts;
  {
    std::lock_guard lock(profiled_mutex_);
    for (vmm::GuestRange const& known : profiled_) {
      uint64_t const from = std::max(known.start.value, range.start.value);
      uint64_t const to = std::min(known.end().value, range.end().value);
      if (from < to) parts.push_back({vmm::GuestAddr(from), to - from});
    }
  }
  for (vmm::GuestRange const& part : parts) {
    state->range_open |= store_result(store_->range_begin(state->slot, part.start.value, part.size)) == 0;
  }
}

void Recovery::on_syscall_exit(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result) {
  if (rescue_) rescue_->on_syscall_exit(thread, args, result);
  ThreadState* state = state_of(thread);
  if (state == nullptr) return;
  if (state->range_open) {
    state->range_open = false;
    uint64_t const all = UINT64_MAX;
    uint64_t const written = result < 0 ? 0 : counts_bytes(args.nr) ? static_cast<uint64_t>(result) : all;
    (void)store_result(store_->range_done(state->slot, written));
  }
  uint64_t const depth = std::min<uint64_t>(slots_.host(state->slot)->depth, SRS_MAX_DEPTH);
  if (depth != 0) state->effects.after(thread, args, result, first_number(*state, depth - 1));
}

// A send inside a scope: held until the commit, or (commit_on_send) itself the commit.
std::optional<int64_t> Recovery::output(vmm::Thread& thread, ThreadState& state, vmm::SyscallArgs const& args) {
  srs_slot* const slot = slots_.host(state.slot);
  vmm::FileRef const file = thread.fds().get(static_cast<int>(args.a[0]));
  if (!file || file->kind() != vmm::OpenFile::Kind::kSocket) return std::nullopt;
  uint64_t const depth = slot->depth;
  if (depth == 0 || depth > SRS_MAX_DEPTH) return std::nullopt;
  if ((slot->scopes[depth - 1].flags & SRS_SCOPE_COMMIT_ON_SEND) != 0) {
    // What the client is about to be told becomes final first (output commit).
    commit_for_output(thread, state);
    state.answer_number = first_number(state, depth - 1);
    return std::nullopt;
  }
  uint64_t const number = first_number(state, depth - 1);
  if (auto held = state.held.take(thread, args, number)) {
    slot->wants_commit = 1;
    return held;
  }
  state.output_sent = true;
  state.output_number = state.answer_number = number;
  return std::nullopt;
}

// Output commit: what the scope has done so far becomes final, and it goes on under a fresh owner, so that what it
// stores from here on is logged anew.
void Recovery::commit_for_output(vmm::Thread& thread, ThreadState& state) {
  srs_slot* const slot = slots_.host(state.slot);
  std::lock_guard lock(abort_mutex_);
  srs_record const final_record{srs_what(SRS_REC_FINAL, 0, 0), SRS_FINAL_ALL, 0, 0};
  srs_record const renew{srs_what(SRS_REC_RENEW, 0, 0), 0, 0, 0};
  if (!store_->note(state.slot, final_record) || !store_->note(state.slot, renew)) return;
  srs_landing& landing = slot->landings[slot->depth - 1];
  landing.owner = slot->owner;
  landing.check = srs_landing_check(&landing, slots_.key(state.slot));
  (void)thread.memory().write(vmm::GuestAddr(slot->key_address), srs_tag_make(slot->owner, 0, 0xff));
}

// The mask before its first change in each scope: an abort goes back to it, also from within a signal handler.
void Recovery::on_mask_change(vmm::Thread& thread, uint64_t before) {
  ThreadState* state = state_of(thread);
  if (state == nullptr) return;
  uint64_t const depth = std::min<uint64_t>(slots_.host(state->slot)->depth, SRS_MAX_DEPTH);
  if (depth == 0) {
    state->masks.clear();
    return;
  }
  uint64_t const outermost = first_number(*state, 0), number = first_number(*state, depth - 1);
  std::erase_if(state->masks, [outermost](MaskBefore const& m) { return m.number < outermost; });
  if (state->masks.empty() || state->masks.back().number < number) state->masks.push_back({number, before});
}

uint64_t Recovery::first_number(ThreadState const& state, uint64_t index) const {
  return __atomic_load_n(&slots_.host(state.slot)->scopes[index].first_number, __ATOMIC_RELAXED);
}

}  // namespace vmsrs::runtime
