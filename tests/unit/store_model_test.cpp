// links: srs_store
// The store against its oracle: every interleaving (up to the order of steps that do not touch each other) of up to
// three scopes on two words, with log and store as steps of their own. And each rule of the store switched off in
// turn: the model must turn red.
#include "tests/unit/store_model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace vmsrs::store::model {
namespace {

Op const S0{What::store, 0, 0xff}, S0l{What::store, 0, 0x0f}, S0h{What::store, 0, 0xf0}, S1{What::store, 1, 0xff};
// A delta on half the word: whoever stores to an integer that is updated so, stores all of it.
Op const D0l{What::delta, 0, 0x0f};
Op const H0{What::half, 0, 0xff}, H0l{What::half, 0, 0x0f};
Op const Begin{What::begin}, Commit{What::commit}, Abort{What::abort};
Op const Renew{What::renew}, Final{What::final_}, Free{What::free_};

bool touches(Program const& p, int word) {
  return std::any_of(p.ops.begin(), p.ops.end(), [&](Op const& op) {
    return (op.what <= What::half && op.word == word) || (op.what == What::free_ && word == 1);
  });
}

bool frees(Program const& p) {
  return std::any_of(p.ops.begin(), p.ops.end(), [](Op const& op) { return op.what == What::free_; });
}

struct Explorer {
  std::vector<Program> programs;
  Mode mode;
  uint64_t runs = 0, races = 0;
  std::string failure;

  std::vector<std::vector<Step>> steps;
  std::vector<size_t> next;
  std::vector<size_t> schedule;

  bool commute(size_t a, Step const& x, size_t b, Step const& y) const {
    if (frees(programs[a]) || frees(programs[b])) return false;
    auto const word_of = [&](size_t t, Step const& s) {
      return s.kind == Step::Kind::other ? -1 : programs[t].ops[s.op].word;
    };
    int const wx = word_of(a, x);
    int const wy = word_of(b, y);
    if (wx >= 0 && wy >= 0) return wx != wy;
    if (wx >= 0) return !touches(programs[b], wx);
    if (wy >= 0) return !touches(programs[a], wy);
    return (!touches(programs[a], 0) || !touches(programs[b], 0)) &&
           (!touches(programs[a], 1) || !touches(programs[b], 1));
  }

  // Whether t's next step would enter a store of bytes that another thread is in the middle of storing.
  bool races_with_others(size_t t) const {
    auto const op_in_work = [&](size_t u) -> Op const* {
      if (next[u] == 0) return nullptr;
      Step const& done = steps[u][next[u] - 1];
      return done.kind == Step::Kind::other || done.kind == Step::Kind::store ? nullptr : &programs[u].ops[done.op];
    };
    Step const& step = steps[t][next[t]];
    Op const& op = programs[t].ops[step.op];
    if (step.kind == Step::Kind::other || op_in_work(t) == &op) return false;
    for (size_t u = 0; u < programs.size(); ++u) {
      Op const* other = u == t ? nullptr : op_in_work(u);
      if (other != nullptr && other->word == op.word && (other->mask & op.mask) != 0 &&
          !(other->what == What::delta && op.what == What::delta)) {
        return true;
      }
    }
    return false;
  }

  std::string text() const {
    std::string all;
    for (size_t t : schedule) all += static_cast<char>('A' + t);
    return all;
  }

  // One run of the schedule; false if it is a race.
  bool run() {
    World world(programs, mode);
    std::vector<size_t> at(programs.size());
    for (size_t t : schedule) {
      if (!world.step(t, steps[t][at[t]++])) {
        ++races;
        return false;
      }
      if (!world.failure().empty()) break;
    }
    ++runs;
    failure = world.failure().empty() ? world.check() : world.failure();
    if (!failure.empty()) failure += " after " + text();
    return true;
  }

  void explore() {
    size_t total = 0;
    for (auto const& s : steps) total += s.size();
    if (schedule.size() == total) {
      run();
      return;
    }
    for (size_t t = 0; t < programs.size() && failure.empty(); ++t) {
      if (next[t] == steps[t].size()) continue;
      if (!schedule.empty()) {
        size_t const last = schedule.back();
        if (last > t && commute(last, steps[last][next[last] - 1], t, steps[t][next[t]])) continue;
      }
      if (races_with_others(t)) continue;
      schedule.push_back(t);
      ++next[t];
      explore();
      --next[t];
      if (failure.empty()) schedule.pop_back();
    }
  }

  void prepare() {
    steps.clear();
    schedule.clear();
    for (Program const& p : programs) steps.push_back(steps_of(p, mode));
    next.assign(programs.size(), 0);
  }
};

struct Total {
  uint64_t runs = 0, races = 0, programs = 0;
  std::string failure;
};

bool all(Total& total, std::vector<Program> programs, Mode const& mode) {
  Explorer e;
  e.programs = std::move(programs);
  e.mode = mode;
  e.prepare();
  e.explore();
  total.runs += e.runs;
  total.races += e.races;
  ++total.programs;
  if (!e.failure.empty()) {
    total.failure = e.failure + ", programs";
    for (Program const& p : e.programs) {
      total.failure += " [";
      for (size_t i = 0; i < p.ops.size(); ++i) {
        char op[32];
        std::snprintf(op, sizeof op, "%s%d:w%d:%02x", i == p.outside && i > 0 ? "| " : "",
                      static_cast<int>(p.ops[i].what), p.ops[i].word, p.ops[i].mask);
        total.failure += std::string(i > 0 ? " " : "") + op;
      }
      total.failure += "]";
    }
  }
  return e.failure.empty();
}

// Every scope of one or two operations out of `alphabet`, with both ends.
std::vector<Program> scopes(std::vector<Op> const& alphabet, bool two) {
  std::vector<Program> list;
  for (Op const& end : {Commit, Abort}) {
    for (Op const& a : alphabet) {
      list.push_back({{a, end}});
      if (!two) continue;
      for (Op const& b : alphabet) list.push_back({{a, b, end}});
    }
  }
  return list;
}

// Programs that the exhaustive alphabet does not hold: nesting, stores outside scopes, release, free, a thread that is
// stopped in the middle of a store.
std::vector<Program> special() {
  return {
      {{S0, Begin, S0l, Commit, Abort}},
      {{S0, Begin, S1, Abort, S0l, Commit}},
      {{Begin, S0l, Commit, S0l, Abort}},
      {{S0l, Begin, S0h, Begin, S1, Commit, Abort, Commit}},
      {{S0, S0l, S1, Commit}, 1},
      {{S0l, S0h, Abort}, 1},
      {{S0}, 1},
      {{S0l}, 1},
      {{D0l, S1}, 2},
      {{Renew, S0, Final, Renew, S1, Abort}},
      {{S0, Renew, S0l, Final, Renew, S0, Abort}},
      {{S0, H0l, Abort}},
      {{H0, Abort}},
      {{S1, Free, Commit}},
      {{Free, Commit}},
      {{S1, Free, Abort}},
      {{D0l, S0, Commit}},
      {{D0l, D0l, Abort}},
      {{S0, D0l, Abort}},
  };
}

template <typename F>
bool each_group(std::vector<Program> const& list, size_t size, F const& visit) {
  std::vector<Program> group;
  std::function<bool(size_t)> const add = [&](size_t from) {
    if (group.size() == size) return visit(group);
    for (size_t i = from; i < list.size(); ++i) {
      group.push_back(list[i]);
      if (!add(i)) return false;
      group.pop_back();
    }
    return true;
  };
  return add(0);
}

// Stops at the first failure. The whole of it, or (for the broken rules) with `mode` fixed.
Total everything(std::vector<Mode> const& modes) {
  Total total;
  for (Mode const& mode : modes) {
    bool const plain = mode.grain == Grain::log_store;
    auto const visit = [&](std::vector<Program> const& group) { return all(total, group, mode); };
    // Two scopes of two operations each, over all kinds of stores.
    if (!each_group(scopes({S0, S0l, S0h, S1, D0l}, plain), 2, visit)) return total;
    // The special programs, in pairs, and each with a scope of one operation.
    auto const short_enough = [&](std::vector<Program> const& group) {
      size_t steps = 0;
      for (Program const& p : group) steps += steps_of(p, mode).size();
      return steps <= (plain ? 13 : 11);
    };
    if (!each_group(special(), 2, [&](std::vector<Program> const& g) { return !short_enough(g) || visit(g); })) {
      return total;
    }
    for (Program const& p : special()) {
      for (Program const& q : scopes({S0, S0l, S1, D0l}, false)) {
        if (short_enough({p, q}) && !visit({p, q})) return total;
      }
    }
    // Three scopes.
    std::vector<Op> const three = plain ? std::vector<Op>{S0, S0l, S0h, D0l} : std::vector<Op>{S0, S0l};
    if (!each_group(scopes(three, false), 3, visit)) return total;
  }
  return total;
}

// Three threads of four operations, all kinds, random but the same each time.
Total sample(std::vector<Mode> const& modes, unsigned count, unsigned seed) {
  Total total;
  std::mt19937 random(seed);
  std::vector<Op> const alphabet{S0, S0l, S0h, S1, D0l, D0l, S0, S0l};
  for (unsigned i = 0; i < count && total.failure.empty(); ++i) {
    Explorer e;
    e.mode = modes[i % modes.size()];
    size_t const threads = 2 + random() % 2;
    for (size_t t = 0; t < threads; ++t) {
      if (random() % 4 == 0) {
        auto const list = special();
        e.programs.push_back(list[random() % list.size()]);
        continue;
      }
      Program p;
      p.outside = random() % 5 == 0 ? 1 : 0;
      size_t const ops = 2 + random() % 3;
      for (size_t k = 0; k < ops; ++k) p.ops.push_back(alphabet[random() % alphabet.size()]);
      p.ops.push_back(random() % 2 == 0 ? Commit : Abort);
      e.programs.push_back(std::move(p));
    }
    e.prepare();
    for (;;) {
      std::vector<size_t> ready;
      for (size_t t = 0; t < threads; ++t) {
        if (e.next[t] < e.steps[t].size() && !e.races_with_others(t)) ready.push_back(t);
      }
      if (ready.empty()) break;
      size_t const t = ready[random() % ready.size()];
      e.schedule.push_back(t);
      ++e.next[t];
    }
    e.run();
    total.runs += e.runs;
    total.races += e.races;
    ++total.programs;
    if (!e.failure.empty()) {
      total.failure = e.failure + " (sample " + std::to_string(i) + ", seed " + std::to_string(seed) + ")";
    }
  }
  return total;
}

std::vector<Mode> modes(Rules const& rules) {
  using enum Drain;
  using enum Grain;
  std::vector<Mode> list{
      {at_abort, log_store, Restore::eager, false, rules},
      {each_step, prepare_take_store, Restore::eager, false, rules},
      {at_commit, take_publish_store, Restore::demand, false, rules},
      {at_abort, log_store, Restore::eager, true, rules},
  };
  return list;
}

std::vector<Mode> every_mode(Rules const& rules) {
  std::vector<Mode> list;
  for (Drain drain : {Drain::at_abort, Drain::each_step, Drain::at_commit}) {
    for (Grain grain : {Grain::log_store, Grain::prepare_take_store, Grain::take_publish_store}) {
      for (Restore restore : {Restore::eager, Restore::demand}) list.push_back({drain, grain, restore, false, rules});
    }
  }
  list.push_back({Drain::at_abort, Grain::log_store, Restore::eager, true, rules});
  list.push_back({Drain::at_abort, Grain::log_store, Restore::demand, true, rules});
  return list;
}

class Enumerated : public testing::TestWithParam<int> {};

TEST_P(Enumerated, IsAsIfTheAbortedScopesHadNeverStored) {
  Total const total = everything({modes({})[static_cast<size_t>(GetParam())]});
  EXPECT_EQ(total.failure, "");
  std::printf("%llu runs of %llu programs (and %llu schedules that are races of the program's own)\n",
              static_cast<unsigned long long>(total.runs), static_cast<unsigned long long>(total.programs),
              static_cast<unsigned long long>(total.races));
  EXPECT_GT(total.runs, 3000u);
}
std::string mode_name(testing::TestParamInfo<int> const& info) {
  char const* const names[] = {"LazyDrain", "SplitLogStep", "UnpublishedOnDemand", "Strict"};
  return names[info.param];
}
INSTANTIATE_TEST_SUITE_P(Modes, Enumerated, testing::Range(0, 4), mode_name);

TEST(StoreModel, RandomThreeTimesFourInEveryMode) {
  Total const total = sample(every_mode({}), 40000, 1);
  EXPECT_EQ(total.failure, "");
  std::printf("%llu runs, %llu races\n", static_cast<unsigned long long>(total.runs),
              static_cast<unsigned long long>(total.races));
  EXPECT_GT(total.runs, 10000u);
}

struct Broken {
  char const* name;
  bool Rules::*rule;
};
void PrintTo(Broken const& broken, std::ostream* out) {
  *out << broken.name;
}

class StoreModelWithout : public testing::TestWithParam<Broken> {};

TEST_P(StoreModelWithout, TurnsRed) {
  Rules rules;
  rules.*GetParam().rule = false;
  Total total = everything(modes(rules));
  EXPECT_NE(total.failure, "") << "the model does not see that the rule is off";
  std::printf("red after %llu runs: %s\n", static_cast<unsigned long long>(total.runs), total.failure.c_str());
}
INSTANTIATE_TEST_SUITE_P(
    Rule, StoreModelWithout,
    testing::Values(
        Broken{"InheritPreimage", &Rules::inherit_preimage}, Broken{"SettleBelow", &Rules::settle_below},
        Broken{"OrderByPrevLink", &Rules::order_by_prev_link}, Broken{"DrainPredecessors", &Rules::drain_predecessors},
        Broken{"ClampPendingStore", &Rules::clamp_pending_store}, Broken{"TakeUnpublished", &Rules::take_unpublished},
        Broken{"NestedEntriesToParent", &Rules::nested_entries_to_parent}, Broken{"PerByteMask", &Rules::per_byte_mask},
        Broken{"FreeWaitsForLiveScopes", &Rules::free_waits_for_live_scopes},
        Broken{"DeltasByInverse", &Rules::deltas_by_inverse}, Broken{"UndoEveryEntry", &Rules::undo_every_entry},
        Broken{"MarkRestored", &Rules::mark_restored}, Broken{"FinalOnRelease", &Rules::final_on_release}),
    [](auto const& info) { return info.param.name; });

}  // namespace
}  // namespace vmsrs::store::model
