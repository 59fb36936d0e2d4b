// The store as words and back: a checkpoint of a guest takes what is live along, so that the scopes that were under way
// can be undone after a restore.
#include <bit>

#include "runtime/store/slot.hpp"

namespace vmsrs::store {
namespace {

constexpr uint64_t kVersion = 1;

// One visitor for both directions, so that they cannot differ.
class Saver {
 public:
  static constexpr bool kReads = false;
  void word(uint64_t& value) { words.push_back(value); }
  void count(uint64_t& n, uint64_t) { word(n); }
  [[nodiscard]] bool ok() const { return true; }
  std::vector<uint64_t> words;
};

class Loader {
 public:
  static constexpr bool kReads = true;
  explicit Loader(std::vector<uint64_t> const& words) : words_(words) {}
  void word(uint64_t& value) {
    value = 0;
    if (at_ < words_.size()) {
      value = words_[at_++];
    } else {
      ok_ = false;
    }
  }
  void count(uint64_t& n, uint64_t each) {
    word(n);
    if (n > (words_.size() - at_) / each) ok_ = false, n = 0;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool done() const { return ok_ && at_ == words_.size(); }

 private:
  std::vector<uint64_t> const& words_;
  size_t at_ = 0;
  bool ok_ = true;
};

template <class A, class T>
void number(A& a, T& value) {
  auto word = static_cast<uint64_t>(value);
  a.word(word);
  value = static_cast<T>(word);
}

template <class A, class T, class Each>
void list(A& a, std::vector<T>& items, uint64_t least, Each const& each) {
  uint64_t n = items.size();
  a.count(n, least);
  if constexpr (A::kReads) items.resize(n);
  for (T& item : items) each(item);
}

template <class A>
void words(A& a, std::vector<uint64_t>& items) {
  list(a, items, 1, [&](uint64_t& item) { a.word(item); });
}

template <class A>
void entry(A& a, Entry& e) {
  for (uint64_t* v : {&e.scope, &e.value, &e.id, &e.prev, &e.fresh}) a.word(*v);
  number(a, e.mask);
  number(a, e.delta);
  number(a, e.ranged);
}

template <class A>
void pending(A& a, PendingStore& p) {
  for (uint64_t* v : {&p.address, &p.id, &p.value}) a.word(*v);
  number(a, p.mask);
  number(a, p.delta);
}

template <class A>
void block(A& a, Block& b) {
  a.word(b.address);
  a.word(b.size);
}

}  // namespace

template <class A>
void Store::visit_slot(A& a, Slot& slot) {
  for (uint64_t* v : {&slot.config.index, &slot.config.address, &slot.config.ring, &slot.config.records,
                      &slot.config.key, &slot.tail, &slot.numbers_seen, &slot.damaged, &slot.newest_index}) {
    a.word(*v);
  }
  uint64_t has_newest = slot.newest.has_value() ? 1 : 0;
  a.word(has_newest);
  if (has_newest != 0) {
    if constexpr (A::kReads) slot.newest.emplace();
    pending(a, *slot.newest);
  }
  words(a, slot.outside);
  list(a, slot.ranges, 3, [&](Slot::RangeWord& r) {
    a.word(r.address);
    number(a, r.mask);
    a.word(r.id);
  });
  list(a, slot.frames, 8, [&](Frame& f) {
    for (uint64_t* v : {&f.owner, &f.current, &f.outer, &f.damaged_at_begin}) a.word(*v);
    words(a, f.words);
    number(a, f.renewed_at);
    number(a, f.compact_at);
    list(a, f.journal, 3, [&](Journal& j) {
      number(a, j.kind);
      a.word(j.address);
      a.word(j.detail);
    });
    words(a, f.dependents);
    words(a, f.exposed_to);
  });
}

Result<std::vector<uint64_t>> Store::save() {
  if (!polluted_.empty()) return tl::unexpected(Error{Code::bad_argument, "save: words wait to be put right"});
  Saver a;
  uint64_t version = kVersion, slots = attached_.size(), chains = chains_.size();
  a.word(version);
  a.word(slots);
  for (Slot* slot : attached_) visit_slot(a, *slot);
  a.word(chains);
  for (auto& [address, chain] : chains_) {
    uint64_t at = address;
    std::vector<Entry> entries = chain.entries();
    a.word(at);
    a.word(chain.top);
    a.word(chain.gaps);
    list(a, entries, 8, [&](Entry& e) { entry(a, e); });
  }
  list(a, quarantine_, 3, [&](Quarantined& q) {
    block(a, q.block);
    words(a, q.waits_for);
  });
  list(a, freed_, 2, [&](Block& b) { block(a, b); });
  return std::move(a.words);
}

Result<void> Store::go_on_from(std::vector<uint64_t> const& saved) {
  auto const bad = [](char const* why) {
    return tl::unexpected(Error{Code::bad_argument, std::string("the saved store makes no sense: ") + why});
  };
  Loader a(saved);
  uint64_t version = 0, slots = 0, chains = 0;
  a.word(version);
  if (version != kVersion) return bad("its version");
  a.count(slots, 13);
  if (!a.ok()) return bad("the number of its slots");
  for (uint64_t i = 0; i < slots; ++i) {
    auto slot = std::make_unique<Slot>();
    visit_slot(a, *slot);
    SlotConfig const& c = slot->config;
    if (!a.ok() || c.index == 0 || c.index >= SRS_MAX_SLOTS || slots_[c.index] || !std::has_single_bit(c.records) ||
        c.records > (uint64_t{1} << 24) || slot->frames.size() > SRS_MAX_DEPTH || ((c.address | c.ring) & 7) != 0) {
      return bad("a slot");
    }
    slot->shared = static_cast<srs_slot*>(memory_.at(c.address, sizeof(srs_slot)));
    slot->ring = static_cast<srs_record*>(memory_.at(c.ring, c.records * sizeof(srs_record)));
    if (slot->shared == nullptr || slot->ring == nullptr) return bad("a slot is not in the guest's memory");
    for (Frame const& f : slot->frames) {
      if (f.renewed_at > f.words.size()) return bad("a scope");
    }
    attached_.push_back(slot.get());
    slots_[c.index] = std::move(slot);
  }
  a.count(chains, 4);
  for (uint64_t i = 0; i < chains; ++i) {
    uint64_t address = 0;
    a.word(address);
    Chain* const chain = chains_.contains(address) ? nullptr : make_chain(address);
    if (!a.ok() || chain == nullptr) return bad("a word that is not in the guest's memory");
    a.word(chain->top);
    a.word(chain->gaps);
    std::vector<Entry> entries;
    list(a, entries, 8, [&](Entry& e) { entry(a, e); });
    chain->put(std::move(entries));
  }
  list(a, quarantine_, 3, [&](Quarantined& q) {
    block(a, q.block);
    words(a, q.waits_for);
  });
  list(a, freed_, 2, [&](Block& b) { block(a, b); });
  if (!a.done()) return bad("its end");
  return {};
}

}  // namespace vmsrs::store
