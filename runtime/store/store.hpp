// The version store: what live scopes did to guest memory, taken from the rings, and its undo.
//
// It runs on plain memory: guest addresses go through Memory, and everything read in guest memory (heads, records,
// tags) is clamped and checked. Guest threads may run during any call. Not thread-safe itself: one caller at a time
// (the store process is one thread; StoreClient serialises).
//
// Who holds what: attach_slot() takes ring address, size and key once and never reads them in the guest again.
#pragma once

#include <memory>
#include <tl/expected.hpp>
#include <unordered_map>
#include <vector>

#include "runtime/store/chain.hpp"
#include "runtime/store/memory.hpp"
#include "runtime/store/shadow.hpp"
#include "runtime/store/types.hpp"

namespace vmsrs::store {

struct SlotConfig {
  uint64_t index = 0;    // 1 .. SRS_MAX_SLOTS - 1
  uint64_t address = 0;  // guest address of its struct srs_slot
  uint64_t ring = 0;     // guest address of its ring
  uint64_t records = 0;  // a power of two
  uint64_t key = 0;
};

template <typename T>
using Result = tl::expected<T, Error>;

class Store {
 public:
  Store(Config config, Memory memory);
  ~Store();

  // The slot's ring must be empty (tail == head); its next record is number `head`.
  Result<void> attach_slot(SlotConfig const& config);
  // The thread has ended: what it had live is undone as by abort of its outermost scope (none is the usual case).
  Result<void> detach_slot(uint64_t index);

  // Takes what the ring holds, and what it builds on from other rings.
  Result<void> drain(uint64_t index);
  void drain_all();
  // Drains each ring that is at least a quarter full. How full the fullest was, in 1/256.
  static constexpr uint64_t kDrainFrom = 64;  // of 256
  uint64_t drain_filled();

  // Pages (guest addresses, sorted) where an abort of `scope` may change memory: in demand mode the caller takes them
  // away from the guest before abort().
  Result<std::vector<uint64_t>> pages_of(Owner scope);
  // Undoes `scope` and what is nested in it, as if it had never stored. The scope's thread must be stopped; nobody
  // else need be. Its slot is left with an empty ring and nothing pending; slot->owner is the caller's business
  // (AbortResult::outer).
  Result<AbortResult> abort(Owner scope, Restore restore);

  // Demand mode: puts the polluted words of a page right. Any page may be asked for; 0 words is an answer.
  RestoreResult restore_page(uint64_t page, Reason reason, uint64_t word = 0);
  // Puts everything right. Returns the pages that were polluted.
  std::vector<uint64_t> sweep();

  // Strict mode, and a handler that interrupted a log step: the store logs and writes by itself.
  Result<void> store_word(uint64_t slot, uint64_t address, uint8_t mask, uint64_t value);
  // width 4 or 8; CAS compares with `expected`. Returns the integer's old value.
  Result<uint64_t> fetch_op(uint64_t slot, uint64_t address, srs_fetch_op op, uint64_t operand, uint64_t width,
                            uint64_t expected);
  // A record that stores nothing: begin, commit, alloc, free, lock, unlock, final, renew; `check` is not looked at.
  // Begin, renew: a is the owner if it is a fresh one of this slot, else (0) the store picks it. Commit: ends the
  // innermost scope. These three leave slot->owner and slot->next_number in guest memory as srs/log.h would.
  Result<void> note(uint64_t slot, srs_record const& record);
  // A system call is going to write [address, address + size): as stores of the slot's scope, in flight until done.
  // Several ranges of one call: in the order in which it fills them.
  Result<void> range_begin(uint64_t slot, uint64_t address, uint64_t size);
  // It wrote the first `written` bytes of them all.
  Result<void> range_done(uint64_t slot, uint64_t written);

  // From now on every store to [address, address + size) is logged (whole words of it count): an abort puts back what
  // changed otherwise. The thread that asks has no store outside scopes in progress there. 64 MiB in all.
  // `strict`: every store is made by store_word() and its kin.
  Result<void> shadow_add(uint64_t address, uint64_t size, bool strict);
  // Takes the rings, so that what was committed is known; to be called every few milliseconds while there are ranges.
  void shadow_renew();
  // Looks for wild writes and leaves them.
  Wild shadow_check();

  // Blocks freed by committed scopes which no scope live at that commit can touch any more. Each is told once.
  std::vector<Block> take_freed();
  // Scopes live now, by their outermost name; as far as drained.
  std::vector<Owner> live_scopes() const;
  Stats stats() const;

  // All of it as words, after drain_all() and sweep(); and back, into a store that is as new, over memory that holds
  // what it held then.
  Result<std::vector<uint64_t>> save();
  Result<void> go_on_from(std::vector<uint64_t> const& saved);

 private:
  struct Frame;
  struct Slot;
  template <class A>
  static void visit_slot(A& a, Slot& slot);
  struct Batch;
  struct Polluted {
    uint64_t* word;
    uint64_t bits;
    uint64_t value;
  };
  struct Quarantined {
    Block block;
    std::vector<Owner> waits_for;
  };

  Slot* slot_at(uint64_t index);
  Frame* frame_of(Owner scope);
  Batch& fresh_batch();
  void join(Batch& batch, Slot& slot);
  void skip_ended(Batch& batch, Slot& slot, uint64_t head);
  bool nothing_below(Slot const& slot, TagId prev);
  void read_ring(Batch& batch, Slot& slot);
  bool accept_unpublished(Batch& batch, Slot& slot);
  void take(Batch& batch, Slot& slot, srs_record const& record);
  void take_word(Batch& batch, Slot& slot, srs_record const& record);
  void take_note(Batch& batch, Slot& slot, srs_record const& record);
  void commit(Batch& batch, Slot& slot);
  void needs(Batch& batch, Slot& slot, TagId prev);
  void settle_outside(Slot& slot);
  void apply(Batch& batch);
  void apply_word(uint64_t address, Chain& chain, std::vector<Entry>& records);
  void note_dependency(Chain const& chain, Entry const& record);
  // `scope` was committed, or handed over to its parent `now`.
  void dependent_ended(Owner scope, Owner now);
  void free_blocks(Batch& batch);
  void release_quarantine();
  void settle_words(std::vector<uint64_t> const& words, size_t from, Owner scope, Owner tag_owner);
  void erase_if_empty(uint64_t address);
  Settled settled(uint64_t address, uint64_t tag);
  void renew_shadow();
  Chain* chain_at(uint64_t address);

  std::vector<PendingStore> pending_stores();
  void close_words(std::vector<uint64_t> const& words, AbortResult& result);
  void undo_word(uint64_t address, std::vector<Owner> const& scopes, std::vector<PendingStore> const& pending,
                 Restore restore, AbortResult& result);
  void patch_now(uint64_t address, Chain& chain, Patch const& patch);
  void patch_later(uint64_t address, Chain& chain, Patch const& patch);
  void journal_backward(Frame& frame, AbortResult& result);
  uint64_t word_now(uint64_t address, uint64_t const* word) const;
  Result<Entry> log_direct(Slot& slot, uint64_t address, uint8_t mask, bool delta, uint64_t addend,
                           bool ranged = false);
  void write_direct(uint64_t address, uint64_t* word, uint64_t bits, uint64_t value);

  Config config_;
  Memory memory_;
  std::vector<std::unique_ptr<Slot>> slots_;  // by index
  std::vector<Slot*> attached_;
  std::unordered_map<uint64_t, Chain> chains_;
  // How many chains have words of this hash: 0 says at once that a word has none.
  std::vector<uint32_t> filter_;
  static size_t hash(uint64_t address) { return (address >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 52; }
  Chain* make_chain(uint64_t address);
  void erase_chain(std::unordered_map<uint64_t, Chain>::iterator at);
  std::unique_ptr<Batch> batch_;    // the one in work: kept for its memory
  std::vector<Entry> of_one_word_;  // likewise
  std::unordered_map<uint64_t, std::unordered_map<uint64_t, Polluted>> polluted_;  // page -> word
  Shadow shadow_;
  bool strict_ = false;
  std::vector<Quarantined> quarantine_;
  std::vector<Block> freed_;
  Stats stats_;
};

// For the process whose threads run guest code: lets barrier_everywhere() reach them. Once, before guest code runs.
Result<void> register_for_barrier();
// Every processor that runs a registered process passes an instruction boundary (and leaves guest mode, if it is in a
// virtual machine) before this returns. Some 20 microseconds.
void barrier_everywhere();

}  // namespace vmsrs::store
