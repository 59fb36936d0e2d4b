// Rings into chains. A batch takes what some rings hold, and what that builds on from other rings, so that each record
// finds its predecessor; then scopes that ended within the batch cost no insertion where nothing live lies below.
#include <algorithm>

#include "runtime/store/slot.hpp"
#include "srs/log.h"

namespace vmsrs::store {

Result<void> Store::drain(uint64_t index) {
  Slot* slot = slot_at(index);
  if (slot == nullptr) {
    return tl::unexpected(Error{Code::no_such_slot, "drain: slot " + std::to_string(index) + " is not attached"});
  }
  Batch& batch = fresh_batch();
  join(batch, *slot);
  apply(batch);
  return {};
}

void Store::drain_all() {
  Batch& batch = fresh_batch();
  for (Slot* slot : attached_) join(batch, *slot);
  apply(batch);
}

uint64_t Store::drain_filled() {
  uint64_t fullest = 0;
  Batch& batch = fresh_batch();
  for (Slot* slot : attached_) {
    uint64_t const waiting = load(&slot->shared->head) - slot->tail;
    if (static_cast<int64_t>(waiting) <= 0) continue;
    uint64_t const fill = std::min(waiting, slot->config.records) * 256 / slot->config.records;
    fullest = std::max(fullest, fill);
    if (fill >= kDrainFrom) join(batch, *slot);
  }
  if (!batch.slots.empty()) apply(batch);
  return fullest;
}

Store::Batch& Store::fresh_batch() {
  batch_->clear();
  return *batch_;
}

void Store::join(Batch& batch, Slot& slot) {
  if (slot.queued) return;
  // A slot may be read again: while its ring was read, its thread and another may both have gone on, and the other's
  // newest record builds on one that was not there yet. It ends, since no ring is given back before the batch is done.
  slot.queued = true;
  batch.slots.push_back(&slot);
  if (slot.in_batch) return;
  slot.in_batch = true;
  for (Frame& frame : slot.frames) frame.base = frame.fate = batch.fresh(frame.owner);
}

void Store::settle_outside(Slot& slot) {
  if (slot.outside.empty() || !slot.ranges.empty() || load(&slot.shared->pending) == slot.newest_index + 1) return;
  settle_words(slot.outside, 0, slot.nobody(), 0);
  slot.outside.clear();
}

// Whether no record that is not taken yet can lie below one whose previous tag is `prev`.
bool Store::nothing_below(Slot const& slot, TagId prev) {
  Owner const owner = owner_of(prev);
  uint64_t const index = srs_owner_slot(owner);
  if (prev == 0 || index == slot.config.index || index == 0) return true;
  Slot const* other = slot_at(index);
  if (other == nullptr) return true;
  // All records of a scope that is known to have ended are taken already.
  uint64_t const number = srs_owner_number(owner);
  return number != 0 && number <= other->numbers_seen &&
         std::none_of(other->frames.begin(), other->frames.end(),
                      [&](Frame const& f) { return number >= srs_owner_number(f.owner); });
}

// The common case, at a few nanoseconds a record: whole scopes (and stores outside scopes) that have ended, on words
// of which no live scope has an entry and no ring may hold one. Stops at the first scope where anything else shows:
// the rest goes the long way.
void Store::skip_ended(Batch& batch, Slot& slot, uint64_t head) {
  if (!slot.frames.empty() || !config_.rules.drain_predecessors || !config_.rules.check_words) return;
  uint64_t at = slot.tail;
  uint64_t numbers = slot.numbers_seen;
  uint64_t depth = 0, stores = 0, commits = 0;
  size_t const freed_before = batch.freed.size();
  uint64_t key = slot.config.key, mask = slot.config.records - 1;
  bool const shadowed = !shadow_.empty();
  for (; at != head; ++at) {
    srs_record const record = load(&slot.ring[at & mask]);
    if (record.check != srs_record_check(&record, key, at)) break;
    uint64_t const address = srs_record_addr(record.what);
    bool good = true;
    switch (srs_record_kind_of(record.what)) {
      case SRS_REC_STORE:
      case SRS_REC_DELTA:
        good = (address & 7) == 0 && srs_record_mask(record.what) != 0 && filter_[hash(address)] == 0 &&
               nothing_below(slot, id_of(record.b));
        ++stores;
        if (shadowed) shadow_.touched(address);
        break;
      case SRS_REC_BEGIN:
        good = srs_owner_slot(record.a) == slot.config.index && srs_owner_number(record.a) > numbers &&
               ++depth <= SRS_MAX_DEPTH;
        numbers = srs_owner_number(record.a);
        break;
      case SRS_REC_COMMIT:
        good = depth > 0;
        if (good) --depth;
        ++commits;
        break;
      case SRS_REC_ALLOC:
      case SRS_REC_UNLOCK:
        break;
      case SRS_REC_FREE:
        batch.freed.push_back({address, record.a});
        break;
      case SRS_REC_LOCK:
        good = record.b == 0;
        break;
      default:
        good = false;
    }
    if (!good) break;
    if (depth != 0) continue;
    stats_.records += at + 1 - slot.tail;
    stats_.skipped += stores;
    stats_.commits += commits;
    stores = commits = 0;
    slot.tail = at + 1;
    slot.numbers_seen = numbers;
    slot.newest.reset();
    batch.freed_ended = batch.freed.size();
  }
  batch.freed.resize(std::max(freed_before, batch.freed_ended));
}

void Store::read_ring(Batch& batch, Slot& slot) {
  slot.queued = false;
  settle_outside(slot);
  uint64_t const head = load(&slot.shared->head);
  uint64_t const waiting = head - slot.tail;
  // A head behind the tail (a record was taken before its publication) is nothing to read; one that is a ring or more
  // ahead is the guest's damage, and the check words say which records are real.
  uint64_t const count = static_cast<int64_t>(waiting) < 0 ? 0 : std::min(waiting, slot.config.records);
  uint64_t const end = slot.tail + count;
  if (batch.taken.empty()) skip_ended(batch, slot, end);
  while (slot.tail != end) {
    srs_record const record = load(&slot.ring[slot.tail & (slot.config.records - 1)]);
    ++stats_.records;
    if (config_.rules.check_words && record.check != srs_record_check(&record, slot.config.key, slot.tail)) {
      ++stats_.damaged;
      ++slot.damaged;
      ++slot.tail;
      slot.newest.reset();
      continue;
    }
    slot.newest_index = slot.tail++;
    take(batch, slot, record);
  }
}

bool Store::accept_unpublished(Batch& batch, Slot& slot) {
  if (!config_.rules.take_unpublished || load(&slot.shared->pending) != slot.tail + 1) return false;
  srs_record const record = load(&slot.ring[slot.tail & (slot.config.records - 1)]);
  uint64_t const kind = srs_record_kind_of(record.what);
  if (record.check != srs_record_check(&record, slot.config.key, slot.tail) ||
      (kind != SRS_REC_STORE && kind != SRS_REC_DELTA)) {
    return false;
  }
  // Complete; but did the tag change hands? It shows in the tag, or in a record that builds on this one.
  uint64_t const address = srs_record_addr(record.what);
  TagId const id = next_id(id_of(record.b), slot.owner());
  uint64_t const* tag = memory_.word(config_.tag_base + (address & config_.address_mask & ~uint64_t{7}));
  if (tag == nullptr) return false;
  if (id_of(load(tag)) != id && std::none_of(batch.taken.begin(), batch.taken.end(), [&](Batch::Taken const& t) {
        return t.address == address && t.entry.prev == id;
      })) {
    return false;
  }
  ++stats_.records;
  ++stats_.unpublished;
  slot.newest_index = slot.tail++;
  take(batch, slot, record);
  return true;
}

void Store::take(Batch& batch, Slot& slot, srs_record const& record) {
  slot.newest.reset();
  uint64_t const kind = srs_record_kind_of(record.what);
  if (kind == SRS_REC_STORE || kind == SRS_REC_DELTA) {
    take_word(batch, slot, record);
  } else {
    take_note(batch, slot, record);
  }
}

void Store::needs(Batch& batch, Slot& slot, TagId prev) {
  if (!config_.rules.drain_predecessors || nothing_below(slot, prev)) return;
  join(batch, *slot_at(srs_owner_slot(owner_of(prev))));
}

void Store::take_word(Batch& batch, Slot& slot, srs_record const& record) {
  uint64_t const address = srs_record_addr(record.what);
  uint8_t mask = static_cast<uint8_t>(srs_record_mask(record.what));
  if ((address & 7) != 0 || mask == 0) {
    ++stats_.damaged;
    ++slot.damaged;
    return;
  }
  if (!config_.rules.per_byte_mask) mask = 0xff;
  Entry entry;
  entry.value = record.a;
  entry.prev = id_of(record.b);
  entry.id = next_id(entry.prev, slot.owner());
  entry.mask = mask;
  entry.delta = srs_record_kind_of(record.what) == SRS_REC_DELTA;
  if (!shadow_.empty()) shadow_.touched(address);
  needs(batch, slot, entry.prev);
  slot.newest = PendingStore{address, entry.id, mask, entry.delta, 0};
  batch.taken.push_back(
      {address, entry, slot.frames.empty() ? 0 : slot.frames.back().fate, static_cast<uint32_t>(slot.config.index)});
}

void Store::take_note(Batch& batch, Slot& slot, srs_record const& record) {
  uint64_t const address = srs_record_addr(record.what);
  auto const kind = static_cast<srs_record_kind>(srs_record_kind_of(record.what));
  Frame* frame = slot.frames.empty() ? nullptr : &slot.frames.back();
  auto const bad = [&] {
    ++stats_.damaged;
    ++slot.damaged;
  };
  bool const names_me = srs_owner_slot(record.a) == slot.config.index;
  switch (kind) {
    case SRS_REC_BEGIN: {
      if (!names_me || srs_owner_number(record.a) == 0 || slot.frames.size() >= SRS_MAX_DEPTH) return bad();
      Frame fresh;
      fresh.outer = slot.owner();
      fresh.owner = fresh.current = record.a;
      fresh.base = fresh.fate = batch.fresh(fresh.owner);
      fresh.damaged_at_begin = slot.damaged;
      slot.numbers_seen = std::max(slot.numbers_seen, srs_owner_number(record.a));
      slot.frames.push_back(std::move(fresh));
      return;
    }
    case SRS_REC_RENEW:
      if (frame == nullptr || !names_me) return bad();
      if (frame->fate != frame->base) {
        batch.fates[frame->fate] = {Batch::Fate::State::forward, frame->base, 0};
      }
      frame->fate = batch.fresh(frame->owner);
      frame->current = record.a;
      frame->renewed_at = frame->words.size();
      slot.numbers_seen = std::max(slot.numbers_seen, srs_owner_number(record.a));
      return;
    case SRS_REC_FINAL:
      if (frame == nullptr) return bad();
      if (!config_.rules.final_on_release) return;
      // What is final may point to blocks allocated before: an abort must not free them any more.
      for (Frame& f : slot.frames) std::erase_if(f.journal, [](Journal const& j) { return j.kind == SRS_REC_ALLOC; });
      if (record.a == SRS_FINAL_ALL) {
        settle_words(frame->words, 0, frame->owner, 0);
        frame->renewed_at = 0;
        batch.fates[frame->base].state = Batch::Fate::State::final;
      } else {
        // Only a scope that was renewed can tell what it wrote since; otherwise all of it is final.
        settle_words(frame->words, frame->renewed_at, frame->owner, frame->current);
      }
      frame->words.resize(frame->renewed_at);
      batch.fates[frame->fate].state = Batch::Fate::State::final;
      if (frame->fate == frame->base || record.a == SRS_FINAL_ALL) frame->base = batch.fresh(frame->owner);
      frame->fate = frame->renewed_at == 0 && record.a == SRS_FINAL_ALL ? frame->base : batch.fresh(frame->owner);
      return;
    case SRS_REC_COMMIT: {
      // A begin or commit lost to damage: the record names the scope that ends.
      auto const found = std::find_if(slot.frames.begin(), slot.frames.end(),
                                      [&](Frame const& f) { return f.owner == record.a || f.current == record.a; });
      if (found == slot.frames.end()) return bad();
      while (slot.frames.end() - found > 1) {
        bad();
        commit(batch, slot);
      }
      commit(batch, slot);
      return;
    }
    case SRS_REC_ALLOC:
    case SRS_REC_FREE:
      if (frame != nullptr) {
        frame->journal.push_back({kind, address, record.a});
      } else if (kind == SRS_REC_FREE) {
        batch.freed.push_back({address, record.a});
      }
      break;
    case SRS_REC_LOCK:
      if (frame == nullptr) return;
      frame->journal.push_back({kind, address, record.a});
      // b: tag owner of the scope that gave the lock up last, if libsrs knows it.
      if (record.b != 0 && config_.rules.track_dependents) {
        Frame* giver = frame_of(record.b);
        if (giver != nullptr && srs_owner_slot(record.b) != slot.config.index) {
          giver->dependents.push_back(frame->owner);
        }
      }
      return;
    case SRS_REC_UNLOCK:
      for (size_t f = slot.frames.size(); f-- > 0;) {
        auto& journal = slot.frames[f].journal;
        auto const lock = std::find_if(journal.rbegin(), journal.rend(), [&](Journal const& j) {
          return j.kind == SRS_REC_LOCK && j.address == address;
        });
        if (lock != journal.rend()) {
          journal.erase(std::next(lock).base());
          return;
        }
      }
      return;
    default:
      return bad();
  }
}

void Store::commit(Batch& batch, Slot& slot) {
  Frame ended = std::move(slot.frames.back());
  slot.frames.pop_back();
  ++stats_.commits;
  bool const hand_over = !slot.frames.empty() && config_.rules.nested_entries_to_parent;
  Batch::Fate fate{Batch::Fate::State::final, 0, 0};
  if (hand_over) {
    Frame& parent = slot.frames.back();
    fate = {Batch::Fate::State::forward, parent.fate, 0};
    for (uint64_t address : ended.words) {
      if (Chain* chain = chain_at(address)) chain->rename(ended.owner, parent.owner);
    }
    auto const append = [](auto& to, auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(parent.words, ended.words);
    append(parent.journal, ended.journal);
    append(parent.dependents, ended.dependents);
    append(parent.exposed_to, ended.exposed_to);
    dependent_ended(ended.owner, parent.owner);
  } else {
    settle_words(ended.words, 0, ended.owner, 0);
    for (Journal const& j : ended.journal) {
      if (j.kind == SRS_REC_FREE) batch.freed.push_back({j.address, j.detail});
    }
    dependent_ended(ended.owner, 0);
  }
  batch.fates[ended.fate] = fate;
  if (ended.base != ended.fate) batch.fates[ended.base] = fate;
}

void Store::apply(Batch& batch) {
  for (;;) {
    while (batch.read < batch.slots.size()) read_ring(batch, *batch.slots[batch.read++]);
    if (!batch.freed.empty() && !batch.everybody && config_.rules.free_waits_for_live_scopes) {
      // Whoever is live now may hold entries in the freed blocks: that must be known.
      batch.everybody = true;
      for (Slot* slot : attached_) join(batch, *slot);
      continue;
    }
    bool more = false;
    for (size_t i = 0; i < batch.slots.size(); ++i) more |= accept_unpublished(batch, *batch.slots[i]);
    if (!more && batch.read == batch.slots.size()) break;
  }
  for (Slot* slot : batch.slots) {
    __atomic_store_n(&slot->shared->tail, slot->tail, __ATOMIC_RELEASE);
  }

  // Words that are or become live; of the others' records nothing is kept.
  for (Batch::Taken& t : batch.taken) {
    Batch::Fate const& fate = batch.fate(t.fate);
    t.entry.scope = fate.state == Batch::Fate::State::final ? 0 : fate.scope;
    if (t.entry.scope != 0 && chain_at(t.address) == nullptr && make_chain(t.address) == nullptr) ++stats_.damaged;
  }
  for (uint32_t i = 0; i < batch.taken.size(); ++i) {
    Batch::Taken& t = batch.taken[i];
    Chain* const chain = chain_at(t.address);
    if (chain == nullptr) continue;
    Slot& slot = *slots_[t.slot];
    bool const outside = t.entry.scope == 0 && srs_owner_number(owner_of(t.entry.id)) == 0;
    if (outside &&
        (t.entry.ranged || (slot.newest && slot.newest->address == t.address && slot.newest->id == t.entry.id &&
                            load(&slot.shared->pending) == slot.newest_index + 1))) {
      t.entry.scope = slot.nobody();
      slot.outside.push_back(t.address);
    }
    batch.kept.push_back({t.address, i, chain});
  }
  stats_.skipped += batch.taken.size() - batch.kept.size();
  std::sort(batch.kept.begin(), batch.kept.end(), [](Batch::Kept const& a, Batch::Kept const& b) {
    return a.address != b.address ? a.address < b.address : a.place < b.place;
  });
  for (size_t i = 0; i < batch.kept.size();) {
    Batch::Kept const first = batch.kept[i];
    of_one_word_.clear();
    for (; i < batch.kept.size() && batch.kept[i].address == first.address; ++i) {
      of_one_word_.push_back(batch.taken[batch.kept[i].place].entry);
    }
    apply_word(first.address, *first.chain, of_one_word_);
  }
  free_blocks(batch);
  for (Slot* slot : batch.slots) slot->in_batch = false;
  renew_shadow();
}

// A scope that fights with others over the tags of a few words logs them again and again.
void Store::Frame::add_word(uint64_t address) {
  words.push_back(address);
  if (words.size() - renewed_at < compact_at) return;
  auto const from = words.begin() + static_cast<ptrdiff_t>(renewed_at);
  std::sort(from, words.end());
  words.erase(std::unique(from, words.end()), words.end());
  compact_at = std::max<size_t>(1 << 16, 2 * (words.size() - renewed_at));
}

// The usual case: each record follows the one before it (and the first begins the word's chain, or follows its top).
static bool in_order(TagId top, std::vector<Entry> const& records) {
  if (top != 0 && records[0].prev != top) return false;
  for (size_t i = 1; i < records.size(); ++i) {
    if (records[i].prev != records[i - 1].id) return false;
  }
  return true;
}

void Store::apply_word(uint64_t address, Chain& chain, std::vector<Entry>& records) {
  if (config_.rules.order_by_prev_link && !in_order(chain.top, records)) {
    uint64_t const gaps = order(chain.top, records);
    stats_.unordered += gaps;
    chain.gaps += gaps;
  }
  for (Entry const& record : records) {
    if (config_.rules.track_dependents && !record.delta) note_dependency(chain, record);
    chain.add(record, config_.rules);
    if (record.scope == 0) continue;
    if (Frame* frame = frame_of(record.scope)) frame->add_word(address);
  }
  chain.prune();
  if (chain.empty()) erase_if_empty(address);
}

void Store::note_dependency(Chain const& chain, Entry const& record) {
  for (Entry const& below : chain.entries()) {
    if (below.scope == 0 || (below.mask & record.mask) == 0 ||
        srs_owner_slot(below.scope) == srs_owner_slot(owner_of(record.id))) {
      continue;
    }
    Frame* builder_on = frame_of(below.scope);
    if (builder_on == nullptr) continue;
    bool const live = record.scope != 0 && frame_of(record.scope) != nullptr;
    auto& list = live ? builder_on->dependents : builder_on->exposed_to;
    Owner const who = live ? record.scope : owner_of(record.id);
    if (std::find(list.begin(), list.end(), who) == list.end()) list.push_back(who);
  }
}

void Store::dependent_ended(Owner scope, Owner now) {
  for (Slot* slot : attached_) {
    for (Frame& frame : slot->frames) {
      if (std::erase(frame.dependents, scope) == 0) continue;
      auto& list = now != 0 ? frame.dependents : frame.exposed_to;
      Owner const name = now != 0 ? now : scope;
      if (std::find(list.begin(), list.end(), name) == list.end()) list.push_back(name);
    }
  }
}

void Store::free_blocks(Batch& batch) {
  if (!batch.freed.empty()) {
    std::vector<Owner> const live = config_.rules.free_waits_for_live_scopes ? live_scopes() : std::vector<Owner>{};
    for (Block const& block : batch.freed) quarantine_.push_back({block, live});
  }
  release_quarantine();
}

void Store::release_quarantine() {
  std::erase_if(quarantine_, [&](Quarantined& q) {
    std::erase_if(q.waits_for, [&](Owner scope) { return frame_of(scope) == nullptr; });
    if (!q.waits_for.empty()) return false;
    freed_.push_back(q.block);
    return true;
  });
}

}  // namespace vmsrs::store
