// The world of the store's model test: up to three threads with scopes, an arena of two words, a real Store, and an
// oracle that knows nothing of tags, chains or rings.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/store/store.hpp"
#include "srs/log.h"

namespace vmsrs::store::model {

enum class What : uint8_t {
  store,   // three or four steps, or two
  delta,   // the same
  half,    // a store whose last step never comes: the thread is stopped in it
  begin,   // nested
  commit,  // innermost scope
  abort,   // innermost scope
  renew,
  final_,  // what was written since renew
  free_    // block = word 1
};

struct Op {
  What what;
  int word = 0;
  uint8_t mask = 0xff;
};

// A thread: `outside` operations, then a scope with the rest.
struct Program {
  std::vector<Op> ops;
  size_t outside = 0;
};

enum class Drain : uint8_t { at_abort, each_step, at_commit };
// Which steps of a store another thread may come between. pc: prepare, take and publish in one, then the store.
enum class Grain : uint8_t { log_store, prepare_take_store, take_publish_store };

struct Mode {
  Drain drain = Drain::at_abort;
  Grain grain = Grain::log_store;
  Restore restore = Restore::eager;
  bool strict = false;
  Rules rules;
};

// One atomic step of a thread.
struct Step {
  enum class Kind : uint8_t { prepare, take, log, store, other } kind;
  size_t op;
};

inline std::vector<Step> steps_of(Program const& program, Mode const& mode) {
  std::vector<Step> steps;
  for (size_t i = 0; i < program.ops.size(); ++i) {
    What const what = program.ops[i].what;
    if (what != What::store && what != What::delta && what != What::half) {
      steps.push_back({Step::Kind::other, i});
      continue;
    }
    if (mode.strict) {
      steps.push_back({Step::Kind::store, i});
      continue;
    }
    if (mode.grain == Grain::log_store) {
      steps.push_back({Step::Kind::log, i});
    } else {
      steps.push_back({Step::Kind::prepare, i});
      if (mode.grain == Grain::prepare_take_store) steps.push_back({Step::Kind::log, i});
      if (mode.grain == Grain::take_publish_store) steps.back().kind = Step::Kind::take;
    }
    if (what != What::half) steps.push_back({Step::Kind::store, i});
  }
  return steps;
}

// What really happened, for the oracle.
struct Event {
  int word;
  uint64_t bits;
  uint64_t value;
  bool delta;
  bool done;
  int thread;
  int scope;  // unique; -1: outside, or final
  bool undone = false;
  uint64_t renewal = 0;
};

class World {
 public:
  static constexpr size_t kArena = 4096;
  static constexpr uint64_t kRing = 64;

  World(std::vector<Program> const& programs, Mode const& mode) : programs_(programs), mode_(mode) {
    static auto* const arena = static_cast<uint64_t*>(std::aligned_alloc(kArena, kArena));
    words_ = arena;
    words_[0] = initial_[0] = 0x1111111111111111;
    words_[1] = initial_[1] = 0x2222222222222222;
    std::memset(tags_, 0, sizeof tags_);
    Memory memory;
    memory.add({address(words_), kArena, words_});
    memory.add({address(tags_), sizeof tags_, tags_});
    memory.add({address(slots()), 4 * sizeof(srs_slot), slots()});
    memory.add({address(rings()), 4 * kRing * sizeof(srs_record), rings()});
    Config config;
    config.tag_base = address(tags_);
    config.address_mask = kArena - 1;
    config.rules = mode.rules;
    store_ = std::make_unique<Store>(config, memory);
    for (size_t t = 0; t < programs.size(); ++t) {
      srs_slot& s = slots()[t + 1];
      std::memset(&s, 0, 256);
      s.index = t + 1;
      s.ring = address(rings() + kRing * t);
      s.ring_records = kRing;
      s.key = 1000 + t;
      s.owner = srs_owner(t + 1, 0);
      s.next_number = 1;
      if (!store_->attach_slot({s.index, address(&s), s.ring, kRing, s.key})) std::abort();
      threads_.emplace_back();
    }
  }

  // False: this schedule is a data race or a use after free of the program's own: not run on.
  bool step(size_t t, Step const& step) {
    Thread& me = threads_[t];
    if (me.dead) return true;
    Op const& op = programs_[t].ops[step.op];
    if (step.op >= programs_[t].outside && me.scopes.empty() && !me.began) {
      begin(t);
      me.began = true;
    }
    bool ok = true;
    if (step.kind == Step::Kind::other) {
      ok = other(t, op);
    } else {
      ok = word_step(t, op, step.kind);
    }
    if (mode_.drain == Drain::each_step && !store_->drain(t + 1)) std::abort();
    reuse();
    return ok;
  }

  // Empty: memory is as if the aborted scopes had never stored.
  std::string check() {
    for (int w = 0; w < 2; ++w) {
      if (mode_.restore == Restore::demand) touch(w);
      uint64_t want = initial_[w];
      for (Event const& e : events_) {
        if (e.word != w || e.undone || !e.done) continue;
        want = (want & ~e.bits) | ((e.delta ? (want & e.bits) + e.value : e.value) & e.bits);
      }
      if (want != words_[w]) {
        char text[120];
        std::snprintf(text, sizeof text, "word %d is %016llx, right is %016llx", w,
                      static_cast<unsigned long long>(words_[w]), static_cast<unsigned long long>(want));
        return text;
      }
    }
    return {};
  }
  std::string const& failure() const { return failure_; }
  Store& store() { return *store_; }

 private:
  struct Thread {
    std::vector<int> scopes;       // innermost last
    std::vector<uint64_t> outers;  // slot->owner before each
    bool began = false;
    bool dead = false;
    std::optional<size_t> event;  // of the store half-way
    srs_log_step half{};
    bool owned = false;
    bool frees = false;
    uint64_t renewal = 0;
  };

  static uint64_t address(void const* p) { return reinterpret_cast<uint64_t>(p); }
  static srs_slot* slots() {
    static auto* const memory = static_cast<srs_slot*>(std::calloc(4, sizeof(srs_slot)));
    return memory;
  }
  static srs_record* rings() {
    static auto* const memory = static_cast<srs_record*>(std::calloc(4 * kRing, sizeof(srs_record)));
    return memory;
  }

  void touch(int w) { store_->restore_page(address(&words_[w]) & ~uint64_t{4095}, Reason::trap); }

  void begin(size_t t) {
    srs_slot& s = slots()[t + 1];
    threads_[t].outers.push_back(s.owner);
    if (mode_.strict) {
      if (!store_->note(t + 1, {srs_what(SRS_REC_BEGIN, 0, 0), 0, 0, 0})) std::abort();
    } else if (srs_log_begin(&s, 0) != SRS_LOG_DONE) {
      std::abort();
    }
    threads_[t].scopes.push_back(next_scope_++);
  }

  bool word_step(size_t t, Op const& op, Step::Kind kind) {
    Thread& me = threads_[t];
    srs_slot& s = slots()[t + 1];
    uint64_t* const tag = &tags_[op.word];
    uint64_t* const word = &words_[op.word];
    uint64_t const bits = mask_bits(op.mask);
    bool const delta = op.what == What::delta;
    bool const entry = !me.event.has_value();
    if (entry) {
      for (Thread const& other : threads_) {
        if (&other == &me || !other.event) continue;
        Event const& e = events_[*other.event];
        if (e.word == op.word && (e.bits & bits) != 0 && !(e.delta && delta) && !other.dead) return false;
      }
      if (op.word == 1 && freed_) return false;
      if (mode_.restore == Restore::demand) touch(op.word);
      ++values_;
      uint64_t const value = delta ? (values_ * 0x0001000100010001 & bits) : (values_ * 0x0101010101010101) & bits;
      me.event = new_event(t, op, bits, value, delta);
    }
    uint64_t const value = events_[*me.event].value;
    uint64_t const record_kind = delta ? SRS_REC_DELTA : SRS_REC_STORE;
    bool const shared = delta || op.mask != 0xff;
    switch (kind) {
      case Step::Kind::log:
      case Step::Kind::take:
      case Step::Kind::prepare: {
        if (entry) {
          me.owned = !delta && srs_log_owned(&s, *tag, op.mask);
          if (me.owned) return true;
          if (srs_log_claim(&s, &me.half.index) != SRS_LOG_DONE) std::abort();
          s.pending_value = delta ? ((*word & bits) + value) & bits : value;
          if (!srs_log_prepare(&s, tag, word, record_kind, op.mask, value, &me.half)) std::abort();
          if (kind == Step::Kind::prepare) return true;
        }
        if (me.owned) return true;
        while (!srs_log_take(&s, tag, shared, &me.half)) {
          if (mode_.restore == Restore::demand) touch(op.word);
          if (!srs_log_prepare(&s, tag, word, record_kind, op.mask, value, &me.half)) std::abort();
        }
        // The order of the log is the order of the tags.
        Event const event = events_[*me.event];
        events_.erase(events_.begin() + static_cast<ptrdiff_t>(*me.event));
        for (Thread& other : threads_) {
          if (&other != &me && other.event && *other.event > *me.event) --*other.event;
        }
        events_.push_back(event);
        me.event = events_.size() - 1;
        if (kind != Step::Kind::take) srs_log_publish(&s, &me.half);
        return true;
      }
      case Step::Kind::store:
        if (mode_.restore == Restore::demand && !mode_.strict) touch(op.word);
        if (mode_.strict) {
          uint64_t const address_of = address(word);
          auto const done = delta ? store_
                                        ->fetch_op(t + 1, address_of + (op.mask == 0xf0 ? 4 : 0), SRS_OP_ADD,
                                                   op.mask == 0xf0 ? value >> 32 : value, op.mask == 0xff ? 8 : 4, 0)
                                        .has_value()
                                  : store_->store_word(t + 1, address_of, op.mask, value).has_value();
          if (!done) std::abort();
        } else if (me.owned) {
          srs_store_step(&s, word, op.mask, value);
        } else {
          if (mode_.grain == Grain::take_publish_store) srs_log_publish(&s, &me.half);
          if (delta) {
            srs_delta_step(&s, word, op.mask, value);
          } else {
            srs_store_step(&s, word, op.mask, value);
          }
        }
        events_[*me.event].done = true;
        me.event.reset();
        me.owned = false;
        return true;
      default:
        std::abort();
    }
  }

  size_t new_event(size_t t, Op const& op, uint64_t bits, uint64_t value, bool delta) {
    Thread const& me = threads_[t];
    events_.push_back({op.word, bits, value, delta, false, static_cast<int>(t),
                       me.scopes.empty() ? -1 : me.scopes.back(), false, me.renewal});
    return events_.size() - 1;
  }

  void note(size_t t, srs_record_kind kind, uint64_t at = 0, uint64_t a = 0) {
    srs_slot& s = slots()[t + 1];
    if (mode_.strict) {
      if (!store_->note(t + 1, {srs_what(kind, 0, at), a, 0, 0})) std::abort();
    } else {
      int const result = kind == SRS_REC_RENEW    ? srs_log_renew(&s)
                         : kind == SRS_REC_COMMIT ? srs_log_commit(&s, threads_[t].outers.back())
                                                  : srs_log_note(&s, kind, at, a, 0);
      if (result != SRS_LOG_DONE) std::abort();
    }
  }

  bool other(size_t t, Op const& op) {
    Thread& me = threads_[t];
    switch (op.what) {
      case What::begin:
        begin(t);
        return true;
      case What::commit: {
        note(t, SRS_REC_COMMIT);
        int const ended = me.scopes.back();
        me.scopes.pop_back();
        me.outers.pop_back();
        int const heir = me.scopes.empty() ? -1 : me.scopes.back();
        for (Event& e : events_) {
          if (e.scope == ended) e.scope = heir;
        }
        if (mode_.drain != Drain::at_abort || freed_) {
          if (!store_->drain(t + 1)) std::abort();
        }
        return true;
      }
      case What::abort: {
        Owner const scope = slots()[t + 1].owner;
        auto const result = store_->abort(scope, mode_.restore);
        if (!result) std::abort();
        int const ended = me.scopes.back();
        for (Event& e : events_) {
          if (e.scope == ended) e.undone = true;
        }
        slots()[t + 1].owner = result->outer;
        if (result->outer != me.outers.back()) failure_ = "outer owner";
        me.scopes.pop_back();
        me.outers.pop_back();
        me.event.reset();
        me.owned = false;
        if (me.frees) freed_ = me.frees = false;
        if (failure_.empty()) failure_ = mode_.restore == Restore::eager ? check() : "";
        return true;
      }
      case What::renew:
        note(t, SRS_REC_RENEW);
        ++me.renewal;
        return true;
      case What::final_:
        note(t, SRS_REC_FINAL);
        for (Event& e : events_) {
          if (e.scope == me.scopes.back() && e.renewal == me.renewal) e.scope = -1;
        }
        return true;
      case What::free_:
        for (Thread const& other : threads_) {
          if (&other != &me && other.event && events_[*other.event].word == 1) return false;
        }
        if (freed_) return false;
        freed_ = true;
        note(t, SRS_REC_FREE, address(&words_[1]), 8);
        me.frees = true;
        return true;
      default:
        std::abort();
    }
  }

  // The allocator gives the block out again, and writes its own words there without a log.
  void reuse() {
    for (Block const& block : store_->take_freed()) {
      if (block.address != address(&words_[1])) std::abort();
      if (mode_.restore == Restore::demand) touch(1);
      for (Event& e : events_) e.undone |= e.word == 1;
      initial_[1] = words_[1] = 0x7777777777777777;
    }
  }

  std::vector<Program> const& programs_;
  Mode const& mode_;
  uint64_t* words_;
  uint64_t initial_[2];
  inline static uint64_t tags_[kArena / 8];
  std::unique_ptr<Store> store_;
  std::vector<Thread> threads_;
  std::vector<Event> events_;
  int next_scope_ = 0;
  uint64_t values_ = 0;
  bool freed_ = false;
  std::string failure_;
};

}  // namespace vmsrs::store::model
