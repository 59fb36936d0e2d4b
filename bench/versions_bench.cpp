// links: srs_store_process
// What the version store costs: taking records from a ring, undoing, and the way to its process and back.
#include <benchmark/benchmark.h>

#include <memory>

#include "runtime/store_client.hpp"
#include "tests/unit/store_guest.hpp"

namespace {

using namespace vmsrs::store;
using vmsrs::store::test::address;
using vmsrs::store::test::Guest;

struct Local {
  Guest guest;
  std::unique_ptr<Store> store;
  explicit Local(bool barrier = false) {
    Config c = guest.config();
    if (barrier && register_for_barrier()) c.barrier = barrier_everywhere;
    store = std::make_unique<Store>(c, guest.memory());
    for (uint64_t i = 1; i < Guest::kSlots; ++i) (void)store->attach_slot(guest.slot_config(i));
  }
};

// Scopes of `range` stores that have ended when the ring is drained; arg 1: a live scope of another thread holds words
// elsewhere, so that each record must be looked up.
void DrainEnded(benchmark::State& state) {
  Local l;
  auto const stores = static_cast<uint64_t>(state.range(0));
  if (state.range(1) != 0) {
    l.guest.begin(2);
    for (uint64_t i = 0; i < 100; ++i) l.guest.store(2, l.guest.words() + 40000 + i, 1);
    l.store->drain_all();
  }
  uint64_t records = 0;
  for (auto _ : state) {
    state.PauseTiming();
    uint64_t const before = l.guest.slot(1).head;
    while (l.guest.slot(1).head - before + stores + 2 <= Guest::kRing) {
      uint64_t const outer = l.guest.begin(1);
      for (uint64_t i = 0; i < stores; ++i) l.guest.store(1, l.guest.words() + i, i);
      l.guest.commit(1, outer);
    }
    records += l.guest.slot(1).head - before;
    state.ResumeTiming();
    (void)l.store->drain(1);
  }
  state.counters["per_record"] =
      benchmark::Counter(static_cast<double>(records), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(DrainEnded)->Args({10, 0})->Args({1000, 0})->Args({10, 1});

// Records of a scope that is live at the drain go into chains; then it commits.
void DrainLive(benchmark::State& state) {
  Local l;
  uint64_t const stores = 1000;
  for (auto _ : state) {
    state.PauseTiming();
    uint64_t const outer = l.guest.begin(1);
    for (uint64_t i = 0; i < stores; ++i) l.guest.store(1, l.guest.words() + i, i);
    state.ResumeTiming();
    (void)l.store->drain(1);
    state.PauseTiming();
    l.guest.commit(1, outer);
    (void)l.store->drain(1);
    state.ResumeTiming();
  }
  state.counters["per_record"] = benchmark::Counter(static_cast<double>(stores * state.iterations()),
                                                    benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(DrainLive);

// Undo of a scope with `range` words, records still in the ring, eager; with the barrier that running guests need.
void AbortEager(benchmark::State& state) {
  Local l(true);
  auto const words = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) {
    state.PauseTiming();
    l.guest.begin(1);
    for (uint64_t i = 0; i < words; ++i) l.guest.store(1, l.guest.words() + i, i);
    Owner const scope = l.guest.slot(1).owner;
    state.ResumeTiming();
    auto const r = l.store->abort(scope, Restore::eager);
    state.PauseTiming();
    l.guest.slot(1).owner = r->outer;
    state.ResumeTiming();
  }
}
BENCHMARK(AbortEager)->Arg(1)->Arg(10)->Arg(100)->Arg(1000)->Unit(benchmark::kMicrosecond);

void Barrier(benchmark::State& state) {
  (void)register_for_barrier();
  for (auto _ : state) barrier_everywhere();
}
BENCHMARK(Barrier)->Unit(benchmark::kMicrosecond);

struct Remote {
  Guest guest;
  std::unique_ptr<StoreClient> client;
  Remote() {
    ProcessConfig c;
    c.parts.push_back({guest.fd(), guest.base(), Guest::size(), 0});
    c.tag_base = guest.config().tag_base;
    c.address_mask = guest.config().address_mask;
    client = std::move(*StoreClient::start(c));
    for (uint64_t i = 1; i < Guest::kSlots; ++i) (void)client->attach_slot(guest.slot_config(i));
  }
};

void RoundTrip(benchmark::State& state) {
  Remote r;
  for (auto _ : state) (void)r.client->ping();
}
BENCHMARK(RoundTrip)->Unit(benchmark::kMicrosecond)->UseRealTime();

void StrictStore(benchmark::State& state) {
  Remote r;
  uint64_t i = 0;
  for (auto _ : state) {
    (void)r.client->store_word(1, address(r.guest.words() + (i & 1023)), 0xff, i + 1);
    ++i;
  }
}
BENCHMARK(StrictStore)->Unit(benchmark::kMicrosecond)->UseRealTime();

void RemoteAbort(benchmark::State& state) {
  Remote r;
  auto const words = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) {
    state.PauseTiming();
    r.guest.begin(1);
    for (uint64_t i = 0; i < words; ++i) r.guest.store(1, r.guest.words() + i, i);
    Owner const scope = r.guest.slot(1).owner;
    state.ResumeTiming();
    auto const result = r.client->abort(scope, Restore::eager);
    state.PauseTiming();
    r.guest.slot(1).owner = result->outer;
    state.ResumeTiming();
  }
}
BENCHMARK(RemoteAbort)->Arg(10)->Arg(1000)->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
