// The words of the version store: what it is told, and what it answers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "srs/abi.h"

namespace vmsrs::store {

// A scope's name: srs_owner(slot, number), as in SRS_REC_BEGIN.
using Owner = uint64_t;

// One switch per rule of the store, all on. The model test switches each off in turn, to show that the rule is needed
// and that the test sees it. Nothing else changes them.
struct Rules {
  bool inherit_preimage = true;            // undo: the next entry above takes the pre-image
  bool settle_below = true;                // a final store settles the bytes of the entries below it
  bool order_by_prev_link = true;          // a word's records are ordered by previous tag, not by arrival
  bool drain_predecessors = true;          // a record is believed only with the slots it builds on drained
  bool clamp_pending_store = true;         // undo below a store that is logged but not done: memory is put right too
  bool take_unpublished = true;            // a record whose tag is taken but whose head is not advanced counts
  bool nested_entries_to_parent = true;    // inner commit hands over; it makes nothing final
  bool per_byte_mask = true;               // bytes of one word may belong to several scopes
  bool check_words = true;                 // a record that does not fit its check word is not believed
  bool free_waits_for_live_scopes = true;  // a freed block is given out when every scope live then has ended
  bool deltas_by_inverse = true;           // a commuting update is undone by its inverse
  bool undo_every_entry = true;            // all entries that a scope has for a word, newest first
  bool mark_restored = true;               // a restored word's tag changes, so that a half-done log step begins again
  bool final_on_release = true;            // SRS_REC_FINAL makes final what the scope wrote since SRS_REC_RENEW
  bool track_dependents = true;            // a store over a live scope's tag is a dependency
};

enum class Restore : uint32_t {
  eager,  // memory is right when abort returns
  demand  // the words are kept on a list; restore_page() and sweep() put them right
};

enum class Reason : uint32_t { trap = 0, overwrite = 1, sweep = 2 };

struct Config {
  // The tag of the word at address a is at tag_base + (a & address_mask & ~7): as in struct srs_attach.
  uint64_t tag_base = 0;
  uint64_t address_mask = 0;
  uint64_t page_size = 4096;
  // Makes every processor that runs guest code pass an instruction boundary; needed if guest threads run during
  // abort().
  std::function<void()> barrier;
  Rules rules;
};

// A part of guest memory as this process sees it.
struct Range {
  uint64_t guest = 0;
  uint64_t size = 0;
  void* host = nullptr;
  uint64_t offset = 0;  // in the file behind it, where there is one
};

struct Action {
  enum srs_action_kind kind;
  uint64_t arg;
  uint64_t detail;
};

// Words that changed though no logged store changed them (shadow.hpp).
struct Wild {
  uint64_t undone = 0;
  uint64_t left = 0;                // not put back
  std::vector<uint64_t> addresses;  // of both; the first few
};

struct AbortResult {
  Owner outer = 0;                // slot->owner of before the scope began: the enclosing scope's, or number 0
  uint64_t words_polluted = 0;    // words whose memory differs from what it must be, or may
  uint64_t words_restored = 0;    // put right at once
  uint64_t words_spliced = 0;     // words where only the log changed: others had stored above
  uint64_t damaged = 0;           // records of this slot not believed since the scope began: the undo may lack words
  uint64_t unordered = 0;         // records whose predecessor was never seen, in the words of this scope
  uint64_t exposed = 0;           // scopes (or stores outside scopes) that built on this one and are committed
  std::vector<uint64_t> pages;    // guest addresses of polluted pages, sorted; empty after an eager restore
  std::vector<Action> actions;    // newest first, unlocks last
  std::vector<Owner> dependents;  // live scopes that built on this one's values
  Wild wild;                      // found and put back at this abort
};

struct RestoreResult {
  uint64_t restored = 0;     // words put right by this call
  uint64_t overwritten = 0;  // of these: the word named by an overwrite
};

struct Block {
  uint64_t address = 0;
  uint64_t size = 0;
};

struct Stats {
  uint64_t records = 0;      // taken from rings
  uint64_t skipped = 0;      // of these: of ended scopes with nothing live below: never inserted
  uint64_t damaged = 0;      // not believed
  uint64_t unordered = 0;    // predecessor never seen
  uint64_t unpublished = 0;  // taken before the guest published them
  uint64_t chains = 0;       // words with live entries now
  uint64_t entries = 0;      // live entries now
  uint64_t live_scopes = 0;
  uint64_t commits = 0, aborts = 0;
  uint64_t polluted_now = 0;  // words waiting for their restore
  uint64_t by_eager = 0, by_trap = 0, by_overwrite = 0, by_sweep = 0;
  uint64_t strict_stores = 0;
};

// Nothing the store does throws for what the guest did; a request that makes no sense gets one of these.
enum class Code : uint32_t {
  ok = 0,
  no_such_slot,
  slot_in_use,
  bad_address,  // not in guest memory, or not aligned
  bad_ring,     // not a power of two, or not in guest memory
  no_such_scope,
  bad_argument,
  channel,  // the store process: the socket failed
  gone      // the store process has ended
};

struct Error {
  Code code = Code::ok;
  std::string message;  // cause for a person, with the errno's text where there was one
};

}  // namespace vmsrs::store
