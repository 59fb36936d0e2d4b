// What recovery knows that is not in guest memory, as data for a checkpoint: the store's words, the slots, and each
// thread's state. The order of `visit` is the layout in the stream.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/held_output.hpp"
#include "runtime/slot_area.hpp"
#include "runtime/thread_state.hpp"
#include "vmm/error.hpp"

namespace vmsrs::runtime {

struct RecoveryState {
  struct Thread {
    int tid = 0;
    uint64_t slot = 0;
    std::vector<srs_action> actions;
    srs_fault_info last_fault{};
    ScopeEffects::Saved effects;
    std::vector<MaskBefore> masks;
    std::vector<HeldOutput::Saved> held;
    bool output_sent = false;
    uint64_t output_number = 0, answer_number = 0, lock_cycles = 0;
    uint32_t forced_kind = 0;
    uint64_t forced_owner = 0;
    bool forced = false;  // and is to fault at its next gate
    uint64_t aborted_owner = 0;
  };
  bool attached = false;
  uint32_t store_mode = 0;
  uint64_t landing_pad = 0, unwind_pad = 0, run_pad = 0, abort_message = 0;
  std::vector<vmm::GuestRange> profiled;
  SlotArea::Saved slots;
  std::vector<Thread> threads;
  std::vector<uint64_t> store;
};

std::vector<std::byte> encode(RecoveryState& state);
// Null for no bytes. Errc::kBadCheckpoint: no such state.
vmm::Result<std::unique_ptr<RecoveryState>> decode_recovery_state(std::span<std::byte const> bytes);

}  // namespace vmsrs::runtime
