// Stores that the store makes by itself: strict mode, handlers that interrupted a log step, system calls in flight.
#include <algorithm>

#include "runtime/store/slot.hpp"
#include "srs/log.h"

namespace vmsrs::store {

namespace {

tl::unexpected<Error> no_slot(char const* what, uint64_t index) {
  return tl::unexpected(
      Error{Code::no_such_slot, std::string(what) + ": slot " + std::to_string(index) + " is not attached"});
}

}  // namespace

// Takes the tag as a guest thread would, and enters the record.
Result<Entry> Store::log_direct(Slot& slot, uint64_t address, uint8_t mask, bool delta, uint64_t addend, bool ranged) {
  uint64_t* word = memory_.word(address);
  uint64_t* tag = memory_.word(config_.tag_base + (address & config_.address_mask & ~uint64_t{7}));
  if (word == nullptr || tag == nullptr) {
    return tl::unexpected(
        Error{Code::bad_address, "store: no aligned word of guest memory at " + std::to_string(address)});
  }
  if (!config_.rules.per_byte_mask) mask = 0xff;
  Entry entry;
  entry.mask = mask;
  entry.delta = delta;
  entry.ranged = ranged;
  uint64_t seen = load(tag);
  do {
    entry.value = delta ? addend : word_now(address, word);
    entry.prev = id_of(seen);
    entry.id = next_id(entry.prev, slot.owner());
  } while (!swap(tag, seen, srs_tag_next(seen, slot.owner(), delta ? 0 : mask)));
  Batch& batch = fresh_batch();
  join(batch, slot);
  needs(batch, slot, entry.prev);
  batch.taken.push_back(
      {address, entry, slot.frames.empty() ? 0 : slot.frames.back().fate, static_cast<uint32_t>(slot.config.index)});
  apply(batch);
  ++stats_.strict_stores;
  return entry;
}

void Store::write_direct(uint64_t address, uint64_t* word, uint64_t bits, uint64_t value) {
  uint64_t seen = load(word);
  while (!swap(word, seen, (seen & ~bits) | (value & bits))) {
  }
  auto const page = polluted_.find(address & ~(config_.page_size - 1));
  if (page == polluted_.end()) return;
  auto const found = page->second.find(address);
  if (found == page->second.end()) return;
  found->second.bits &= ~bits;
  if (found->second.bits != 0) return;
  ++stats_.by_overwrite;
  page->second.erase(found);
  if (page->second.empty()) polluted_.erase(page);
}

Result<void> Store::store_word(uint64_t index, uint64_t address, uint8_t mask, uint64_t value) {
  Slot* slot = slot_at(index);
  if (slot == nullptr) return no_slot("store", index);
  if (auto drained = drain(index); !drained) return drained;
  auto entry = log_direct(*slot, address, mask, false, 0);
  if (!entry) return tl::unexpected(entry.error());
  write_direct(address, memory_.word(address), mask_bits(mask), value);
  return {};
}

Result<uint64_t> Store::fetch_op(uint64_t index, uint64_t address, srs_fetch_op op, uint64_t operand, uint64_t width,
                                 uint64_t expected) {
  Slot* slot = slot_at(index);
  if (slot == nullptr) return no_slot("fetch_op", index);
  if ((width != 4 && width != 8) || (address & (width - 1)) != 0 || op > SRS_OP_CAS) {
    return tl::unexpected(Error{Code::bad_argument, "fetch_op: width 4 or 8, aligned, and a known operation"});
  }
  if (auto drained = drain(index); !drained) return tl::unexpected(drained.error());
  uint64_t const at = address & ~uint64_t{7};
  unsigned const shift = 8 * static_cast<unsigned>(address & 7);
  auto const mask = static_cast<uint8_t>(((1u << width) - 1) << (address & 7));
  uint64_t const bits = mask_bits(mask);
  uint64_t const field = width == 8 ? ~uint64_t{0} : 0xffffffff;
  uint64_t* word = memory_.word(at);
  if (word == nullptr) {
    return tl::unexpected(Error{Code::bad_address, "fetch_op: no word of guest memory at " + std::to_string(address)});
  }
  uint64_t const now = word_now(at, word);
  if (op == SRS_OP_CAS && ((now >> shift) & field) != (expected & field)) return now >> shift & field;
  bool const delta = op == SRS_OP_ADD;
  auto entry = log_direct(*slot, at, mask, delta, operand << shift);
  if (!entry) return tl::unexpected(entry.error());
  uint64_t const old = delta ? word_now(at, word) : entry->value;
  uint64_t const fresh = delta ? (old & bits) + (operand << shift) : operand << shift;
  write_direct(at, word, bits, fresh);
  return old >> shift & field;
}

Result<void> Store::note(uint64_t index, srs_record const& record) {
  Slot* slot = slot_at(index);
  if (slot == nullptr) return no_slot("record", index);
  if (auto drained = drain(index); !drained) return drained;
  uint64_t const kind = srs_record_kind_of(record.what);
  srs_record copy = record;
  if (kind == SRS_REC_BEGIN || kind == SRS_REC_RENEW) {
    // The guest's number, if it is a fresh one.
    uint64_t number = srs_owner_slot(record.a) == index ? srs_owner_number(record.a) : 0;
    if (number <= slot->numbers_seen) {
      number = std::max(load(&slot->shared->next_number) & (srs_owner(1, 0) - 1), slot->numbers_seen + 1);
    }
    copy.a = srs_owner(index, number);
    __atomic_store_n(&slot->shared->next_number, number + 1, __ATOMIC_RELAXED);
  } else if (kind == SRS_REC_COMMIT) {
    copy.a = slot->owner();
  }
  if (kind == SRS_REC_STORE || kind == SRS_REC_DELTA || kind == 0 || kind > SRS_REC_RENEW ||
      (kind == SRS_REC_COMMIT && slot->frames.empty())) {
    return tl::unexpected(Error{Code::bad_argument, "record: kind " + std::to_string(kind) + " makes no sense here"});
  }
  Batch& batch = fresh_batch();
  join(batch, *slot);
  take_note(batch, *slot, copy);
  apply(batch);
  if (kind == SRS_REC_BEGIN || kind == SRS_REC_RENEW || kind == SRS_REC_COMMIT) {
    __atomic_store_n(&slot->shared->owner, slot->owner(), __ATOMIC_RELEASE);
  }
  return {};
}

Result<void> Store::range_begin(uint64_t index, uint64_t address, uint64_t size) {
  Slot* slot = slot_at(index);
  if (slot == nullptr) return no_slot("range", index);
  if (size == 0) return {};
  if (memory_.at(address, size) == nullptr) {
    return tl::unexpected(Error{Code::bad_address, "range: not in guest memory"});
  }
  if (auto drained = drain(index); !drained) return drained;
  uint64_t const end = address + size;
  for (uint64_t at = address & ~uint64_t{7}; at < end; at += 8) {
    uint64_t const first = std::max(at, address) - at;
    uint64_t const last = std::min(at + 8, end) - at;
    auto const mask = static_cast<uint8_t>(((1u << last) - 1) & ~((1u << first) - 1));
    auto entry = log_direct(*slot, at, mask, false, 0, true);
    if (!entry) return tl::unexpected(entry.error());
    slot->ranges.push_back({at, mask, entry->id});
  }
  return {};
}

Result<void> Store::range_done(uint64_t index, uint64_t written) {
  Slot* slot = slot_at(index);
  if (slot == nullptr) return no_slot("range", index);
  drain_all();
  std::vector<PendingStore> const pending = pending_stores();
  for (Slot::RangeWord const& r : slot->ranges) {
    uint8_t unwritten = 0;
    for (unsigned byte = 0; byte < 8; ++byte) {
      if ((r.mask >> byte & 1) == 0) continue;
      if (written != 0) {
        --written;
      } else {
        unwritten |= static_cast<uint8_t>(1u << byte);
      }
    }
    // The guest must log its own store of a byte that the call did not write: the tag says no longer that it has.
    if (uint64_t* tag = memory_.word(config_.tag_base + (r.address & config_.address_mask & ~uint64_t{7}));
        tag != nullptr && unwritten != 0) {
      uint64_t seen = load(tag);
      while (id_of(seen) == r.id && !swap(tag, seen, seen & ~uint64_t{unwritten})) {
      }
    }
    Chain* chain = chain_at(r.address);
    if (chain == nullptr) continue;
    Patch patch;
    chain->withdraw(r.id, unwritten, r.address, pending, config_.rules, patch);
    if (patch.bits() != 0) patch_now(r.address, *chain, patch);
    erase_if_empty(r.address);
  }
  slot->ranges.clear();
  settle_outside(*slot);
  return {};
}

}  // namespace vmsrs::store
