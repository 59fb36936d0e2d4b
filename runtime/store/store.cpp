#include "runtime/store/store.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "runtime/store/slot.hpp"

namespace vmsrs::store {

Store::Store(Config config, Memory memory)
    : config_(std::move(config)),
      memory_(std::move(memory)),
      slots_(SRS_MAX_SLOTS),
      filter_(4096),
      batch_(std::make_unique<Batch>()) {}
Store::~Store() = default;

Result<void> Store::attach_slot(SlotConfig const& config) {
  auto const fail = [&](Code code, std::string const& why) -> Result<void> {
    return tl::unexpected(Error{code, "attach slot " + std::to_string(config.index) + ": " + why});
  };
  if (config.index == 0 || config.index >= SRS_MAX_SLOTS) return fail(Code::no_such_slot, "index out of range");
  if (slots_[config.index]) return fail(Code::slot_in_use, "already attached");
  if (!std::has_single_bit(config.records) || config.records > (uint64_t{1} << 24)) {
    return fail(Code::bad_ring, "ring size is not a power of two up to 2^24");
  }
  auto slot = std::make_unique<Slot>();
  slot->config = config;
  slot->shared =
      (config.address & 7) != 0 ? nullptr : static_cast<srs_slot*>(memory_.at(config.address, sizeof(srs_slot)));
  if (slot->shared == nullptr) return fail(Code::bad_address, "its slot is not in guest memory");
  slot->ring = (config.ring & 7) != 0
                   ? nullptr
                   : static_cast<srs_record*>(memory_.at(config.ring, config.records * sizeof(srs_record)));
  if (slot->ring == nullptr) return fail(Code::bad_ring, "its ring is not in guest memory");
  slot->tail = load(&slot->shared->head);
  __atomic_store_n(&slot->shared->tail, slot->tail, __ATOMIC_RELEASE);
  attached_.push_back(slot.get());
  slots_[config.index] = std::move(slot);
  return {};
}

Result<void> Store::detach_slot(uint64_t index) {
  Slot* slot = slot_at(index);
  if (slot == nullptr) {
    return tl::unexpected(Error{Code::no_such_slot, "detach: slot " + std::to_string(index) + " is not attached"});
  }
  if (auto drained = drain(index); !drained) return drained;
  if (!slot->frames.empty()) {
    if (auto undone = abort(slot->frames.front().owner, Restore::eager); !undone) {
      return tl::unexpected(undone.error());
    }
  }
  if (!slot->outside.empty()) {  // a store that was logged and, its thread gone, will not be done any more
    std::vector<PendingStore> const pending = pending_stores();
    for (uint64_t address : slot->outside) {
      Chain* chain = chain_at(address);
      if (chain == nullptr) continue;
      Patch patch;
      auto const own =
          std::find_if(pending.begin(), pending.end(), [&](PendingStore const& p) { return p.address == address; });
      if (own != pending.end() && ((load(chain->word) ^ own->value) & mask_bits(own->mask)) == 0) {
        chain->settle(slot->nobody(), 0, config_.rules);  // done after all: memory holds its value
      } else {
        chain->undo(slot->nobody(), address, pending, config_.rules, patch);
        if (patch.bits() != 0) patch_now(address, *chain, patch);
      }
      erase_if_empty(address);
    }
  }
  std::erase(attached_, slot);
  slots_[index].reset();
  return {};
}

Store::Slot* Store::slot_at(uint64_t index) {
  return index < slots_.size() ? slots_[index].get() : nullptr;
}

Store::Frame* Store::frame_of(Owner scope) {
  Slot* slot = slot_at(srs_owner_slot(scope));
  if (slot == nullptr || srs_owner_number(scope) == 0) return nullptr;
  for (Frame& frame : slot->frames) {
    if (frame.owner == scope || frame.current == scope) return &frame;
  }
  return nullptr;
}

Chain* Store::chain_at(uint64_t address) {
  if (filter_[hash(address)] == 0) return nullptr;
  auto const found = chains_.find(address);
  return found == chains_.end() ? nullptr : &found->second;
}

void Store::erase_if_empty(uint64_t address) {
  auto const found = chains_.find(address);
  if (found == chains_.end()) return;
  found->second.prune();
  if (found->second.empty()) erase_chain(found);
}

// Null if the address is no word of guest memory with a tag.
Chain* Store::make_chain(uint64_t address) {
  uint64_t* word = memory_.word(address);
  uint64_t* tag = memory_.word(config_.tag_base + (address & config_.address_mask & ~uint64_t{7}));
  if (word == nullptr || tag == nullptr) return nullptr;
  Chain& chain = chains_[address];
  chain.word = word;
  chain.tag = tag;
  ++filter_[hash(address)];
  return &chain;
}

void Store::erase_chain(std::unordered_map<uint64_t, Chain>::iterator at) {
  --filter_[hash(at->first)];
  chains_.erase(at);
}

void Store::settle_words(std::vector<uint64_t> const& words, size_t from, Owner scope, Owner tag_owner) {
  for (size_t i = from; i < words.size(); ++i) {
    Chain* chain = chain_at(words[i]);
    if (chain == nullptr) continue;
    chain->settle(scope, tag_owner, config_.rules);
    erase_if_empty(words[i]);
  }
}

Result<void> Store::shadow_add(uint64_t address, uint64_t size, bool strict) {
  strict_ = strict;
  auto const tag_of = [&](uint64_t at) { return memory_.word(config_.tag_base + (at & config_.address_mask)); };
  if (!shadow_.add(memory_, address, size, tag_of)) {
    return tl::unexpected(Error{Code::bad_address, "logged range: not in guest memory, or more than 64 MiB in all"});
  }
  shadow_renew();
  return {};
}

Settled Store::settled(uint64_t address, uint64_t tag) {
  if (chain_at(address) != nullptr) return Settled::later;
  auto const page = polluted_.find(address & ~(config_.page_size - 1));
  if (page != polluted_.end() && page->second.contains(address)) return Settled::later;
  Owner const owner = srs_tag_owner(tag);
  if (owner == 0 || owner == SRS_OWNER_RESTORED) return Settled::yes;
  if (srs_owner_slot(owner) == 0) return Settled::later;
  Slot const* slot = slot_at(srs_owner_slot(owner));
  if (slot == nullptr) return Settled::yes;  // its thread has ended
  uint64_t const number = srs_owner_number(owner);
  // Outside scopes a thread may store again with no record.
  if (number == 0) return strict_ ? Settled::yes : Settled::no;
  bool const ended = number <= slot->numbers_seen &&
                     std::none_of(slot->frames.begin(), slot->frames.end(),
                                  [owner](Frame const& f) { return f.owner == owner || f.current == owner; });
  return ended ? Settled::yes : Settled::later;
}

void Store::renew_shadow() {
  if (shadow_.empty()) return;
  shadow_.renew([this](uint64_t address, uint64_t tag) { return settled(address, tag); });
}

void Store::shadow_renew() {
  drain_all();
  renew_shadow();
}

Wild Store::shadow_check() {
  shadow_renew();
  return shadow_.check(false);
}

std::vector<Block> Store::take_freed() {
  return std::exchange(freed_, {});
}

std::vector<Owner> Store::live_scopes() const {
  std::vector<Owner> live;
  for (Slot const* slot : attached_) {
    if (!slot->frames.empty()) live.push_back(slot->frames.front().owner);
  }
  return live;
}

Stats Store::stats() const {
  Stats all = stats_;
  all.chains = chains_.size();
  for (auto const& [address, chain] : chains_) all.entries += chain.entries().size();
  for (Slot const* slot : attached_) all.live_scopes += slot->frames.size();
  for (auto const& [page, words] : polluted_) all.polluted_now += words.size();
  return all;
}

Result<void> register_for_barrier() {
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) != 0) {
    return tl::unexpected(
        Error{Code::channel, std::string("membarrier(REGISTER_GLOBAL_EXPEDITED): ") + std::strerror(errno)});
  }
  return {};
}

void barrier_everywhere() {
  // Cannot fail where register_for_barrier() succeeded; the slow form is the same promise.
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) != 0) {
    syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
  }
}

}  // namespace vmsrs::store
