// What the store knows of one thread: its ring, and its live scopes as far as drained. Private to runtime/store.
#pragma once

#include <optional>
#include <vector>

#include "runtime/store/store.hpp"

namespace vmsrs::store {

struct Journal {
  srs_record_kind kind;  // ALLOC, FREE or LOCK
  uint64_t address;
  uint64_t detail;
};

// A live scope.
struct Store::Frame {
  Owner owner = 0;              // its name
  Owner current = 0;            // what its records' tags carry now: another number after SRS_REC_RENEW
  Owner outer = 0;              // slot->owner of before
  std::vector<uint64_t> words;  // one for each entry it has or had
  size_t renewed_at = 0;        // words[renewed_at…] were logged since the last RENEW
  size_t compact_at = 1 << 16;  // that many since then: each word is kept once
  std::vector<Journal> journal;
  std::vector<Owner> dependents;  // live scopes (by the name of their records' tags) that built on it
  std::vector<Owner> exposed_to;  // the same, ended or outside scopes
  uint64_t damaged_at_begin = 0;
  void add_word(uint64_t address);
  // Fates of its records of the batch in work: of those before the last RENEW, and of those since.
  uint32_t base = 0;
  uint32_t fate = 0;
};

struct Store::Slot {
  SlotConfig config;
  srs_slot* shared = nullptr;
  srs_record* ring = nullptr;
  uint64_t tail = 0;  // records taken
  std::vector<Frame> frames;
  uint64_t numbers_seen = 0;  // scope numbers up to this one have begun, as far as drained
  uint64_t damaged = 0;
  bool in_batch = false;
  bool queued = false;  // to be read, or read again, for the batch in work
  // The newest record taken, if it is a store: the only one that may not be in memory yet.
  std::optional<PendingStore> newest;
  uint64_t newest_index = 0;
  // A store outside scopes that was not in memory when it was drained: live until it is.
  std::vector<uint64_t> outside;
  struct RangeWord {
    uint64_t address;
    uint8_t mask;
    TagId id;
  };
  std::vector<RangeWord> ranges;  // of the system call in flight, in the order in which it fills them

  Owner owner() const { return frames.empty() ? srs_owner(config.index, 0) : frames.back().current; }
  // Stands for the scope of `outside`.
  Owner nobody() const { return srs_owner(config.index, 0); }
};

// Records of rings on their way into the chains.
struct Store::Batch {
  struct Fate {
    enum class State : uint8_t { live, final, forward } state = State::live;
    uint32_t to = 0;
    Owner scope = 0;
  };
  struct Taken {
    uint64_t address;
    Entry entry;
    uint32_t fate;
    uint32_t slot;
  };
  std::vector<Fate> fates{Fate{Fate::State::final, 0, 0}};  // 0: outside scopes
  std::vector<Taken> taken;
  std::vector<Slot*> slots;
  size_t read = 0;  // slots[0 … read) are read
  std::vector<Block> freed;
  bool everybody = false;  // all slots have joined
  size_t freed_ended = 0;  // of these: of scopes that were skipped whole
  struct Kept {
    uint64_t address;
    uint32_t place;  // in `taken`
    Chain* chain;
  };
  std::vector<Kept> kept;

  void clear() {
    fates.resize(1);
    taken.clear();
    slots.clear();
    read = 0;
    freed.clear();
    freed_ended = 0;
    everybody = false;
    kept.clear();
  }
  uint32_t fresh(Owner scope) {
    fates.push_back({Fate::State::live, 0, scope});
    return static_cast<uint32_t>(fates.size() - 1);
  }
  Fate const& fate(uint32_t index) const {
    while (fates[index].state == Fate::State::forward) index = fates[index].to;
    return fates[index];
  }
};

}  // namespace vmsrs::store
