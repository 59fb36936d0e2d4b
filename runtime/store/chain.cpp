#include "runtime/store/chain.hpp"

#include <algorithm>
#include <unordered_map>

#include "srs/log.h"

namespace vmsrs::store {

namespace {

// word with the integer in `bits` changed by +addend or -addend, modulo its width.
uint64_t plus(uint64_t word, uint64_t bits, uint64_t addend) {
  return (word & ~bits) | (((word & bits) + addend) & bits);
}
uint64_t minus(uint64_t word, uint64_t bits, uint64_t addend) {
  return (word & ~bits) | (((word & bits) - (addend & bits)) & bits);
}
uint64_t merge(uint64_t word, uint64_t bits, uint64_t value) {
  return (word & ~bits) | (value & bits);
}

PendingStore const* find_pending(std::vector<PendingStore> const& pending, uint64_t address, TagId id) {
  for (PendingStore const& p : pending) {
    if (p.address == address && p.id == id) return &p;
  }
  return nullptr;
}

}  // namespace

uint64_t mask_bits(uint8_t mask) {
  return srs_mask_bits(mask);
}

uint64_t Patch::apply(uint64_t word) const {
  uint64_t const before = word;
  for (Step const& s : steps) {
    bool const done = ((before ^ s.done) & s.done_bits) == 0;
    if ((s.when == When::if_done && !done) || (s.when == When::if_not_done && done)) continue;
    switch (s.kind) {
      case Kind::set:
        word = merge(word, s.bits, s.value);
        break;
      case Kind::add:
        word = plus(word, s.bits, s.value);
        break;
      case Kind::subtract:
        word = minus(word, s.bits, s.value);
        break;
    }
  }
  return word;
}

uint64_t Patch::bits() const {
  uint64_t all = 0;
  for (Step const& s : steps) all |= s.bits;
  return all;
}

void Chain::add(Entry const& entry, Rules const& rules) {
  top = entry.id;
  if (entry.scope != 0 && merge_into_own(entry)) return;
  entries_.push_back(entry);
  entries_.back().fresh = entry.delta ? entry.value : entry.mask;
  if (entry.scope != 0) return;
  if (entry.delta) {
    settle_delta_at(entries_.size() - 1);
  } else {
    settle_store_at(entries_.size() - 1, rules);
  }
}

// A scope that logs a word again and again needs one entry, if nobody came between (deltas: if no store did).
bool Chain::merge_into_own(Entry const& entry) {
  if (entry.ranged) return false;
  for (size_t i = entries_.size(); i-- > 0;) {
    Entry& e = entries_[i];
    bool const own = e.scope == entry.scope && owner_of(e.id) == owner_of(entry.id) && !e.ranged;
    if (own && e.delta == entry.delta && (!e.delta || e.mask == entry.mask)) {
      if (e.delta) {
        e.value = plus(e.value, mask_bits(e.mask), entry.value);
        e.fresh = entry.value;
      } else {
        e.value = merge(e.value, ~mask_bits(e.mask), entry.value);
        e.fresh = entry.mask & static_cast<uint8_t>(~e.mask);
        e.mask |= entry.mask;
      }
      e.id = entry.id;
      return true;
    }
    if (!entry.delta || !e.delta) return false;
  }
  return false;
}

void Chain::settle_store_at(size_t index, Rules const& rules) {
  Entry const store = entries_[index];
  entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(index));
  if (!rules.settle_below) return;
  for (size_t i = index; i-- > 0;) {
    Entry& e = entries_[i];
    if (!e.delta) {
      e.mask &= static_cast<uint8_t>(~store.mask);
    } else if ((e.mask & ~store.mask) == 0) {
      e.mask = 0;  // whatever it adds, this store hides
    }
    if (e.mask == 0) entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(i));
  }
}

void Chain::settle_delta_at(size_t index) {
  Entry const delta = entries_[index];
  entries_[index].scope = 0;
  for (size_t i = index; i-- > 0;) {
    Entry& e = entries_[i];
    if (e.delta && e.scope == 0 && e.mask == delta.mask) {
      e.value = plus(e.value, mask_bits(e.mask), delta.value);
      break;
    }
    if (!e.delta && (e.mask & delta.mask) != 0) return;  // an undo of e carries it: it stays
  }
  entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(index));
}

void Chain::settle(Owner scope, Owner tag_owner, Rules const& rules) {
  for (size_t i = entries_.size(); i-- > 0;) {
    if (i >= entries_.size()) continue;  // settling takes entries below away; what moved down was seen already
    Entry const& e = entries_[i];
    if (e.scope != scope || (tag_owner != 0 && owner_of(e.id) != tag_owner)) continue;
    if (e.delta) {
      settle_delta_at(i);
    } else {
      settle_store_at(i, rules);
    }
  }
}

void Chain::withdraw(TagId id, uint8_t mask, uint64_t address, std::vector<PendingStore> const& pending,
                     Rules const& rules, Patch& patch) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].ranged || entries_[i].id != id) continue;
    entries_[i].ranged = false;
    Entry part = entries_[i];
    part.mask &= mask;
    entries_[i].mask &= static_cast<uint8_t>(~mask);
    bool const whole = entries_[i].mask == 0;
    if (part.mask != 0) {
      entries_.insert(entries_.begin() + static_cast<ptrdiff_t>(i) + 1, part);
      undo_at(i + 1, address, pending, rules, patch);
      entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(i) + 1);
    }
    if (whole) entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(i));
    return;
  }
}

void Chain::rename(Owner scope, Owner parent) {
  for (Entry& e : entries_) {
    if (e.scope == scope) e.scope = parent;
  }
}

void Chain::undo(Owner scope, uint64_t address, std::vector<PendingStore> const& pending, Rules const& rules,
                 Patch& patch) {
  for (size_t i = entries_.size(); i-- > 0;) {
    if (entries_[i].scope != scope) continue;
    bool const first = std::none_of(entries_.begin(), entries_.begin() + static_cast<ptrdiff_t>(i),
                                    [&](Entry const& e) { return e.scope == scope; });
    if (rules.undo_every_entry || first) undo_at(i, address, pending, rules, patch);
    entries_.erase(entries_.begin() + static_cast<ptrdiff_t>(i));
  }
}

void Chain::undo_at(size_t index, uint64_t address, std::vector<PendingStore> const& pending, Rules const& rules,
                    Patch& patch) {
  Entry const gone = entries_[index];
  if (gone.delta) {
    if (!rules.deltas_by_inverse) return;
    PendingStore const* own = find_pending(pending, address, gone.id);
    PendingStore const* hider = nullptr;  // a store above that hides it from memory once it is done
    uint64_t const bits = mask_bits(gone.mask);
    for (size_t i = index + 1; i < entries_.size(); ++i) {
      Entry& e = entries_[i];
      if (e.delta || (e.mask & gone.mask) == 0) continue;
      e.value = minus(e.value, bits, gone.value);
      if ((gone.mask & ~e.mask) != 0) continue;
      hider = find_pending(pending, address, e.id);
      if (hider == nullptr || (gone.mask & e.fresh) == 0) return;
    }
    if (hider != nullptr) {
      patch.steps.push_back(
          {Patch::Kind::subtract, bits, gone.value, Patch::When::if_not_done, mask_bits(hider->mask), hider->value});
    } else if (own == nullptr) {
      patch.steps.push_back({Patch::Kind::subtract, bits, gone.value});
    } else {
      patch.steps.push_back({Patch::Kind::subtract, bits, gone.value - gone.fresh});
      patch.steps.push_back({Patch::Kind::subtract, bits, gone.fresh, Patch::When::if_done, bits, own->value});
    }
    return;
  }
  uint8_t left = gone.mask;       // bytes that nothing above covers so far
  uint64_t carried = gone.value;  // what they must be
  std::vector<Patch::Step> soft;  // bytes that only a store not yet done covers
  std::vector<Patch::Step> adds;  // deltas of which only memory knows whether they are done
  for (size_t i = index + 1; i < entries_.size() && rules.inherit_preimage; ++i) {
    Entry& e = entries_[i];
    PendingStore const* waiting = find_pending(pending, address, e.id);
    if (e.delta) {
      uint64_t const bits = mask_bits(e.mask);
      if ((e.mask & ~left) != 0) continue;
      if (waiting == nullptr) {
        carried = plus(carried, bits, e.value);
      } else {
        carried = plus(carried, bits, minus(e.value, bits, e.fresh));
        adds.push_back({Patch::Kind::add, bits, e.fresh, Patch::When::if_done, bits, waiting->value});
      }
      continue;
    }
    uint8_t const taken = left & e.mask;
    for (Patch::Step& s : soft) s.bits &= ~mask_bits(e.mask);
    if (taken == 0) continue;
    e.value = merge(e.value, mask_bits(taken), carried);
    if (waiting != nullptr && rules.clamp_pending_store) {
      soft.push_back({Patch::Kind::set, mask_bits(static_cast<uint8_t>(taken & e.fresh)), carried,
                      Patch::When::if_not_done, mask_bits(waiting->mask), waiting->value});
    }
    left &= static_cast<uint8_t>(~e.mask);
  }
  if (left != 0) patch.steps.push_back({Patch::Kind::set, mask_bits(left), carried});
  for (Patch::Step const& s : adds) {
    if ((s.bits & ~mask_bits(left)) == 0) patch.steps.push_back(s);
  }
  for (Patch::Step const& s : soft) {
    if (s.bits != 0) patch.steps.push_back(s);
  }
}

void Chain::prune() {
  uint8_t stores = 0;  // bytes of live stores below
  std::erase_if(entries_, [&](Entry const& e) {
    if (!e.delta) stores |= e.mask;
    return e.delta && e.scope == 0 && (e.mask & stores) == 0;
  });
}

uint64_t order(TagId top, std::vector<Entry>& records) {
  std::vector<Entry> sorted;
  sorted.reserve(records.size());
  std::unordered_multimap<TagId, size_t> by_prev;
  std::vector<bool> used(records.size());
  for (size_t i = records.size(); i-- > 0;) by_prev.emplace(records[i].prev, i);
  uint64_t gaps = 0;
  TagId at = top;
  while (sorted.size() < records.size()) {
    auto [from, to] = by_prev.equal_range(at);
    size_t next = records.size();
    for (; from != to; ++from) {
      if (!used[from->second]) next = std::min(next, from->second);
    }
    if (next == records.size()) {
      // Either the word's log begins here, or a record is missing: the nearest sequence number goes on, preferring one
      // whose predecessor is nowhere in sight.
      uint64_t best = UINT64_MAX;
      for (size_t i = 0; i < records.size(); ++i) {
        if (used[i]) continue;
        bool const inner = std::any_of(records.begin(), records.end(), [&](Entry const& r) {
          return r.id == records[i].prev && !used[static_cast<size_t>(&r - records.data())];
        });
        uint64_t const distance = (seq_of(records[i].id) - seq_of(at)) & ((1u << SRS_TAG_SEQ_BITS) - 1);
        uint64_t const rank = distance + (inner ? uint64_t{1} << 32 : 0);
        if (rank < best) {
          best = rank;
          next = i;
        }
      }
      if (top != 0 || !sorted.empty()) ++gaps;
    }
    used[next] = true;
    sorted.push_back(records[next]);
    at = records[next].id;
  }
  records = std::move(sorted);
  return gaps;
}

}  // namespace vmsrs::store
