#include "runtime/recovery_state.hpp"

#include "vmm/checkpoint/archive.hpp"

namespace vmm {

template <class A>
void visit(A& a, GuestRange& r) {
  visit_all(a, r.start.value, r.size);
}

}  // namespace vmm

template <class A>
void visit(A& a, srs_action& action) {
  vmm::visit_plain(a, action);
}

namespace vmsrs::runtime {

using vmm::visit_all;

template <class A>
void visit(A& a, ScopeEffects::Opened& f) {
  visit_all(a, f.fd, f.number);
}
template <class A>
void visit(A& a, ScopeEffects::Saved::Told& t) {
  visit_all(a, t.effect.call, t.effect.fd, t.effect.path, t.effect.offset, t.effect.size, t.effect.undone, t.number,
            t.why_not);
}
template <class A>
void visit(A& a, ScopeEffects::Saved& s) {
  visit_all(a, s.opened, s.told, s.more);
}
template <class A>
void visit(A& a, MaskBefore& m) {
  visit_all(a, m.number, m.mask);
}
template <class A>
void visit(A& a, HeldOutput::Saved& s) {
  visit_all(a, s.fd, s.bytes, s.sent, s.number);
  if (s.sent > s.bytes.size()) a.fail();
}
template <class A>
void visit(A& a, RecoveryState::Thread& t) {
  visit_all(a, t.tid, t.slot, t.actions);
  vmm::visit_plain(a, t.last_fault);
  visit_all(a, t.effects, t.masks, t.held, t.output_sent, t.output_number, t.answer_number, t.lock_cycles,
            t.forced_kind, t.forced_owner, t.forced, t.aborted_owner);
  if (t.slot == 0 || t.slot >= SRS_MAX_SLOTS) a.fail();
}
template <class A>
void visit(A& a, RecoveryState& s) {
  visit_all(a, s.attached, s.store_mode, s.landing_pad, s.unwind_pad, s.run_pad, s.abort_message, s.profiled,
            s.slots.top, s.slots.keys, s.slots.free, s.threads, s.store);
}

std::vector<std::byte> encode(RecoveryState& state) {
  vmm::ArchiveWriter writer;
  visit(writer, state);
  return std::move(writer.bytes());
}

vmm::Result<std::unique_ptr<RecoveryState>> decode_recovery_state(std::span<std::byte const> bytes) {
  if (bytes.empty()) return nullptr;
  auto state = std::make_unique<RecoveryState>();
  vmm::ArchiveReader reader(bytes);
  visit(reader, *state);
  if (!reader.ok() || reader.left() != 0) {
    return vmm::fail(vmm::Errc::kBadCheckpoint, "the state of recovery makes no sense");
  }
  return state;
}

}  // namespace vmsrs::runtime
