// Undo of a scope, and the ways its words come back.
#include <sched.h>

#include <algorithm>

#include "runtime/store/slot.hpp"
#include "srs/log.h"

namespace vmsrs::store {

namespace {

constexpr int kRounds = 64;  // tries to meet a log step half-way; each makes its guest thread one step further

uint64_t mark(Owner owner, TagId after) {
  return srs_tag_make(owner, seq_of(after) + 1, 0);
}

// Lets guest threads at the word again. Returns its tag now; 0: it was not marked.
uint64_t unmark(uint64_t* tag) {
  uint64_t busy = load(tag);
  if (srs_tag_owner(busy) != SRS_OWNER_BUSY) return 0;
  uint64_t const restored = srs_tag_make(SRS_OWNER_RESTORED, srs_tag_seq(busy), 0);
  return swap(tag, busy, restored) ? restored : 0;
}

}  // namespace

Result<std::vector<uint64_t>> Store::pages_of(Owner scope) {
  drain_all();
  Frame* frame = frame_of(scope);
  if (frame == nullptr) {
    return tl::unexpected(Error{Code::no_such_scope, "pages: scope " + std::to_string(scope) + " is not live"});
  }
  std::vector<uint64_t> pages;
  Slot* slot = slot_at(srs_owner_slot(scope));
  for (Frame* f = frame; f <= &slot->frames.back(); ++f) {
    for (uint64_t address : f->words) pages.push_back(address & ~(config_.page_size - 1));
  }
  std::sort(pages.begin(), pages.end());
  pages.erase(std::unique(pages.begin(), pages.end()), pages.end());
  return pages;
}

std::vector<PendingStore> Store::pending_stores() {
  std::vector<PendingStore> pending;
  for (Slot* slot : attached_) {
    if (!slot->newest || load(&slot->shared->pending) != slot->newest_index + 1) continue;
    PendingStore store = *slot->newest;
    store.value = load(&slot->shared->pending_value);
    pending.push_back(store);
  }
  return pending;
}

// From here on no guest thread can take the words' tags, and every record of them is in their chains: each tag is
// replaced by a busy mark, and none of the marks was overwritten by a log step that had begun before.
void Store::close_words(std::vector<uint64_t> const& words, AbortResult& result) {
  std::vector<uint64_t> open = words;
  for (int round = 0; !open.empty(); ++round) {
    if (round == 2 * kRounds) {  // somebody keeps writing there who follows no protocol: the undo is as good as it gets
      result.damaged += open.size();
      return;
    }
    std::vector<uint64_t> marked;
    std::vector<uint64_t> again;
    for (uint64_t address : open) {
      Chain* chain = chain_at(address);
      if (chain == nullptr) continue;
      uint64_t seen = load(chain->tag);
      bool const known = id_of(seen) == chain->top;
      if (known || round >= kRounds) {
        if (!known) ++result.damaged;  // somebody's record of this word never came, or the tag itself is damaged
        if (swap(chain->tag, seen, mark(SRS_OWNER_BUSY, id_of(seen)))) {
          marked.push_back(address);
          continue;
        }
      }
      again.push_back(address);
    }
    if (config_.barrier && !marked.empty()) config_.barrier();
    for (uint64_t address : marked) {
      if (srs_tag_owner(load(chain_at(address)->tag)) != SRS_OWNER_BUSY) again.push_back(address);
    }
    open = std::move(again);
    if (!open.empty()) {
      drain_all();
      if (round > 2) sched_yield();
    }
  }
}

Result<AbortResult> Store::abort(Owner scope, Restore restore) {
  drain_all();
  Frame* outermost = frame_of(scope);
  if (outermost == nullptr) {
    return tl::unexpected(Error{Code::no_such_scope, "abort: scope " + std::to_string(scope) + " is not live"});
  }
  Slot& slot = *slot_at(srs_owner_slot(scope));
  size_t const from = static_cast<size_t>(outermost - slot.frames.data());

  AbortResult result;
  result.outer = outermost->outer;
  result.damaged = slot.damaged - outermost->damaged_at_begin;
  std::vector<Owner> scopes;
  std::vector<uint64_t> words;
  for (size_t f = slot.frames.size(); f-- > from;) {
    Frame& frame = slot.frames[f];
    scopes.push_back(frame.owner);
    words.insert(words.end(), frame.words.begin(), frame.words.end());
    journal_backward(frame, result);
  }
  std::stable_partition(result.actions.begin(), result.actions.end(),
                        [](Action const& a) { return a.kind != SRS_ACT_UNLOCK; });
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  std::erase_if(words, [&](uint64_t address) {
    Chain* chain = chain_at(address);
    return chain == nullptr || std::none_of(chain->entries().begin(), chain->entries().end(), [&](Entry const& e) {
             return std::find(scopes.begin(), scopes.end(), e.scope) != scopes.end();
           });
  });

  // What the last drain of close_words() brings in belongs to others: the scope's own thread is stopped.
  if (config_.rules.mark_restored) close_words(words, result);
  for (size_t f = from; f < slot.frames.size(); ++f) {
    Frame const& frame = slot.frames[f];
    result.exposed += frame.exposed_to.size();
    result.dependents.insert(result.dependents.end(), frame.dependents.begin(), frame.dependents.end());
  }
  std::vector<PendingStore> const pending = pending_stores();
  for (uint64_t address : words) undo_word(address, scopes, pending, restore, result);
  std::sort(result.pages.begin(), result.pages.end());
  result.pages.erase(std::unique(result.pages.begin(), result.pages.end()), result.pages.end());

  slot.frames.resize(from);
  slot.newest.reset();
  slot.ranges.clear();
  // A record taken before its publication must not be written over under the same number.
  __atomic_store_n(&slot.shared->head, slot.tail, __ATOMIC_RELEASE);
  __atomic_store_n(&slot.shared->tail, slot.tail, __ATOMIC_RELEASE);
  __atomic_store_n(&slot.shared->pending, 0, __ATOMIC_RELEASE);
  for (Slot* other : attached_) {
    for (Frame& frame : other->frames) {
      for (Owner gone : scopes) std::erase(frame.dependents, gone);
    }
  }
  std::erase_if(result.dependents, [&](Owner o) { return frame_of(o) == nullptr; });
  std::sort(result.dependents.begin(), result.dependents.end());
  result.dependents.erase(std::unique(result.dependents.begin(), result.dependents.end()), result.dependents.end());
  ++stats_.aborts;
  release_quarantine();
  if (!shadow_.empty()) {
    for (uint64_t address : words) shadow_.touched(address);
    renew_shadow();
    result.wild = shadow_.check(true);
  }
  return result;
}

void Store::undo_word(uint64_t address, std::vector<Owner> const& scopes, std::vector<PendingStore> const& pending,
                      Restore restore, AbortResult& result) {
  Chain* chain = chain_at(address);
  if (chain == nullptr) {
    // A store above became final while the words were being closed, so nothing is left to undo here.
    ++result.words_spliced;
    unmark(memory_.word(config_.tag_base + (address & config_.address_mask & ~uint64_t{7})));
    return;
  }
  Patch patch;
  for (Owner scope : scopes) chain->undo(scope, address, pending, config_.rules, patch);  // innermost first
  result.unordered += chain->gaps;
  if (patch.bits() == 0) {
    ++result.words_spliced;
  } else {
    ++result.words_polluted;
    if (restore == Restore::eager) {
      patch_now(address, *chain, patch);
      ++result.words_restored;
      ++stats_.by_eager;
    } else {
      patch_later(address, *chain, patch);
      result.pages.push_back(address & ~(config_.page_size - 1));
    }
  }
  if (uint64_t const restored = unmark(chain->tag); restored != 0) chain->top = id_of(restored);
  erase_if_empty(address);
}

// Bytes outside the patch may be stored by others at any moment, and a pending store inside it too: so by
// compare-and-swap, judged anew each time.
void Store::patch_now(uint64_t address, Chain& chain, Patch const& patch) {
  auto const page = polluted_.find(address & ~(config_.page_size - 1));
  if (page != polluted_.end() && page->second.contains(address)) {
    patch_later(address, chain, patch);
    Polluted const p = page->second.at(address);
    write_direct(address, p.word, p.bits, p.value);
    return;
  }
  uint64_t seen = load(chain.word);
  while (!swap(chain.word, seen, patch.apply(seen))) {
  }
}

void Store::patch_later(uint64_t address, Chain& chain, Patch const& patch) {
  uint64_t const value = patch.apply(word_now(address, chain.word));
  Polluted& p =
      polluted_[address & ~(config_.page_size - 1)].try_emplace(address, Polluted{chain.word, 0, 0}).first->second;
  p.bits |= patch.bits();
  p.value = (p.value & ~patch.bits()) | (value & patch.bits());
}

// The word as it is for everybody: memory with what waits for its restore.
uint64_t Store::word_now(uint64_t address, uint64_t const* word) const {
  uint64_t const value = load(word);
  auto const page = polluted_.find(address & ~(config_.page_size - 1));
  if (page == polluted_.end()) return value;
  auto const found = page->second.find(address);
  if (found == page->second.end()) return value;
  return (value & ~found->second.bits) | (found->second.value & found->second.bits);
}

RestoreResult Store::restore_page(uint64_t page, Reason reason, uint64_t word) {
  RestoreResult result;
  auto const found = polluted_.find(page & ~(config_.page_size - 1));
  if (found == polluted_.end()) return result;
  for (auto const& [address, p] : found->second) {
    uint64_t seen = load(p.word);
    while (!swap(p.word, seen, (seen & ~p.bits) | (p.value & p.bits))) {
    }
    ++result.restored;
    if (reason == Reason::overwrite && address == (word & ~uint64_t{7})) {
      ++result.overwritten;
      ++stats_.by_overwrite;
    } else if (reason == Reason::sweep) {
      ++stats_.by_sweep;
    } else {
      ++stats_.by_trap;
    }
  }
  polluted_.erase(found);
  renew_shadow();
  return result;
}

std::vector<uint64_t> Store::sweep() {
  std::vector<uint64_t> pages;
  for (auto const& [page, words] : polluted_) pages.push_back(page);
  std::sort(pages.begin(), pages.end());
  for (uint64_t page : pages) restore_page(page, Reason::sweep);
  return pages;
}

void Store::journal_backward(Frame& frame, AbortResult& result) {
  for (size_t i = frame.journal.size(); i-- > 0;) {
    Journal const& j = frame.journal[i];
    if (j.kind == SRS_REC_ALLOC) result.actions.push_back({SRS_ACT_FREE, j.address, j.detail});
    if (j.kind == SRS_REC_LOCK) result.actions.push_back({SRS_ACT_UNLOCK, j.address, j.detail});
    // FREE: never took effect
  }
}

}  // namespace vmsrs::store
