// The log of one word: what live scopes did to it, oldest first. docs/store.md has the rules and why they hold.
//
// Only live entries stay. A store that becomes final settles the bytes it covers: no undo of an entry below it can
// reach memory through those bytes any more, so they leave the entries below, and the final store itself leaves too.
// A final delta stays while a live store lies below it: the undo of that store must carry it.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/store/types.hpp"

namespace vmsrs::store {

// A tag without its mask: the name of one record of a word. 0: no record.
using TagId = uint64_t;
inline TagId id_of(uint64_t tag) {
  return tag >> SRS_TAG_MASK_BITS;
}
inline Owner owner_of(TagId id) {
  return id >> SRS_TAG_SEQ_BITS;
}
inline uint64_t seq_of(TagId id) {
  return id & ((1u << SRS_TAG_SEQ_BITS) - 1);
}
inline TagId next_id(TagId prev, Owner owner) {
  return owner << SRS_TAG_SEQ_BITS | ((seq_of(prev) + 1) & ((1u << SRS_TAG_SEQ_BITS) - 1));
}

uint64_t mask_bits(uint8_t mask);

struct Entry {
  Owner scope = 0;     // live scope; 0: final
  uint64_t value = 0;  // store: the word before it; delta: the addend, in its place of the word
  TagId id = 0;
  TagId prev = 0;
  uint8_t mask = 0;
  bool delta = false;
  bool ranged = false;  // a system call in flight, which may write less than it announced
  uint64_t fresh = 0;   // what the newest record brought, which may not be in memory yet: delta: that part of
                        // `value`; store: the bytes that it was the first to cover
};

// A store that is logged and may not be in memory yet.
struct PendingStore {
  uint64_t address = 0;
  TagId id = 0;
  uint8_t mask = 0;
  bool delta = false;
  uint64_t value = 0;  // bytes `mask`, in their places
};

// What an undo does to the word in memory, in order.
struct Patch {
  enum class Kind : uint8_t { set, add, subtract };
  enum class When : uint8_t { always, if_done, if_not_done };
  struct Step {
    Kind kind;
    uint64_t bits;   // of the word
    uint64_t value;  // the new bits, or what is added or taken away modulo the field `bits`
    When when = When::always;
    uint64_t done_bits = 0;  // if_done …: a pending store is in memory if these bits of the word …
    uint64_t done = 0;       // … are these
  };
  std::vector<Step> steps;

  uint64_t apply(uint64_t word) const;
  uint64_t bits() const;  // all bits that it may change
};

class Chain {
 public:
  // Adds the newest record; order is the caller's business (order()). final: its scope has ended already.
  void add(Entry const& entry, Rules const& rules);
  // Entries of `scope` (and, if tag_owner is not 0, taken under that tag) become final.
  void settle(Owner scope, Owner tag_owner, Rules const& rules);
  // The bytes `mask` of the ranged entry `id` were not written after all; ranged is over for it.
  void withdraw(TagId id, uint8_t mask, uint64_t address, std::vector<PendingStore> const& pending, Rules const& rules,
                Patch& patch);
  void rename(Owner scope, Owner parent);
  // Takes the entries of `scope` out, newest first, as if they had never been made; what memory needs goes to `patch`.
  void undo(Owner scope, uint64_t address, std::vector<PendingStore> const& pending, Rules const& rules, Patch& patch);
  // Drops what no live entry needs.
  void prune();

  bool empty() const { return entries_.empty(); }
  std::vector<Entry> const& entries() const { return entries_; }
  void put(std::vector<Entry> entries) { entries_ = std::move(entries); }  // of a saved store

  TagId top = 0;             // newest record of the word that the store knows of
  uint64_t* word = nullptr;  // in this process
  uint64_t* tag = nullptr;
  uint64_t gaps = 0;  // records whose predecessor was never seen

 private:
  bool merge_into_own(Entry const& entry);
  void settle_store_at(size_t index, Rules const& rules);
  void settle_delta_at(size_t index);
  void undo_at(size_t index, uint64_t address, std::vector<PendingStore> const& pending, Rules const& rules,
               Patch& patch);

  std::vector<Entry> entries_;
};

// Puts records of one word that came after `top` in the order in which their tags were taken: each is followed by the
// one that names it as predecessor. Returns how many had no predecessor there (a record between was damaged).
uint64_t order(TagId top, std::vector<Entry>& records);

}  // namespace vmsrs::store
