// links: srs_hosted
// What a store through libsrs costs: a scope's first store of a word, its repeats, atomics, copies, scopes and locks;
// beside it plain stores, the library outside the monitor, GCC's transactional memory, and two threads on one line.
//
//   hotpath [Google Benchmark's options]
//
// prints a table, and writes hotpath.json into the current directory unless --benchmark_out names another file.
// The column `ns` is nanoseconds per store (or per call, for what is no store).
#include <benchmark/benchmark.h>
#include <srs/srs.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "bench/hotpath_host.hpp"
#include "bench/hotpath_itm.hpp"

namespace {

constexpr unsigned kWords = 1024;  // data and tags: half of a first-level cache
constexpr unsigned kRounds = 64;

// Per-store time of a loop that did `stores` of them an iteration.
void per_store(benchmark::State& state, uint64_t stores) {
  state.counters["ns"] =
      benchmark::Counter(static_cast<double>(state.iterations() * stores) * 1e-9,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert | benchmark::Counter::kAvgThreads);
}

alignas(64) uint64_t words[kWords];
alignas(64) uint64_t many[65536];

void active(benchmark::State& state) {
  hotpath::attach();
  state.SetLabel(hotpath::host() == hotpath::Host::monitor ? "monitor" : "host in this process");
}

template <class F>
void in_scope(F&& f) {
  using function = std::remove_reference_t<F>;
  if (srs_request([](void* self) { (*static_cast<function*>(self))(); }, &f, nullptr) != SRS_OK) abort();
}

void plain_store(benchmark::State& state) {
  for (auto _ : state) {
    for (uint64_t volatile& w : words) w = 1;
  }
  per_store(state, kWords);
}
BENCHMARK(plain_store);

void libsrs_outside_monitor(benchmark::State& state) {
  if (srs_active() != 0) {
    state.SkipWithError("the library is active already");
    return;
  }
  for (auto _ : state) {
    for (uint64_t& w : words) srs_store64(&w, 1);
  }
  per_store(state, kWords);
}
BENCHMARK(libsrs_outside_monitor);

void libitm_first(benchmark::State& state) {
  uint64_t value = 0;
  for (auto _ : state) hotpath::itm_first(words, kWords, ++value);
  per_store(state, kWords);
}
BENCHMARK(libitm_first);

void libitm_repeat(benchmark::State& state) {
  uint64_t value = 0;
  for (auto _ : state) hotpath::itm_repeat(words, kWords, kRounds, ++value);
  per_store(state, uint64_t{kWords} * kRounds);
}
BENCHMARK(libitm_repeat);

// A scope that stores each of n words once; begin and commit are in the figure.
void first_store(benchmark::State& state) {
  active(state);
  auto const n = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) {
    in_scope([&] {
      for (uint64_t i = 0; i < n; ++i) srs_store64(&many[i], i);
    });
  }
  per_store(state, n);
}
BENCHMARK(first_store)->Arg(16)->Arg(256)->Arg(1024)->Arg(4096)->Arg(65536);

void first_store32(benchmark::State& state) {
  active(state);
  for (auto _ : state) {
    in_scope([&] {
      for (uint64_t& w : words) srs_store32(&w, 1);
    });
  }
  per_store(state, kWords);
}
BENCHMARK(first_store32);

void repeat_store(benchmark::State& state) {
  active(state);
  for (auto _ : state) {
    in_scope([&] {
      for (unsigned k = 0; k < kRounds; ++k) {
        for (uint64_t& w : words) srs_store64(&w, k);
      }
    });
  }
  per_store(state, uint64_t{kWords} * kRounds);
}
BENCHMARK(repeat_store);

void repeat_store8(benchmark::State& state) {
  active(state);
  for (auto _ : state) {
    in_scope([&] {
      for (unsigned k = 0; k < kRounds; ++k) {
        for (uint64_t& w : words) srs_store8(&w, static_cast<uint8_t>(k));
      }
    });
  }
  per_store(state, uint64_t{kWords} * kRounds);
}
BENCHMARK(repeat_store8);

// Each thread stores its own words, every other one of the same cache lines.
void first_store_shared_lines(benchmark::State& state) {
  active(state);
  auto const mine = static_cast<unsigned>(state.thread_index());
  for (auto _ : state) {
    in_scope([&] {
      for (unsigned i = mine; i < kWords; i += 2) srs_store64(&words[i], i);
    });
  }
  per_store(state, kWords / 2);
}
BENCHMARK(first_store_shared_lines)->Threads(2)->UseRealTime();

void plain_store_shared_lines(benchmark::State& state) {
  auto const mine = static_cast<unsigned>(state.thread_index());
  uint64_t volatile* const w = words;
  for (auto _ : state) {
    for (unsigned i = mine; i < kWords; i += 2) w[i] = i;
  }
  per_store(state, kWords / 2);
}
BENCHMARK(plain_store_shared_lines)->Threads(2)->UseRealTime();

void libitm_shared_lines(benchmark::State& state) {
  uint64_t value = 0;
  for (auto _ : state) hotpath::itm_every_other(words, static_cast<unsigned>(state.thread_index()), kWords, ++value);
  per_store(state, kWords / 2);
}
BENCHMARK(libitm_shared_lines)->Threads(2)->UseRealTime();

void fetch_add(benchmark::State& state) {
  active(state);
  for (auto _ : state) {
    in_scope([&] {
      for (uint64_t& w : words) srs_fetch_add64(&w, 1);
    });
  }
  per_store(state, kWords);
}
BENCHMARK(fetch_add);

void copy_4096_bytes(benchmark::State& state) {
  active(state);
  static char source[4096];
  for (auto _ : state) in_scope([&] { srs_memcpy(many, source, sizeof source); });
  per_store(state, 1);
}
BENCHMARK(copy_4096_bytes);

void empty_scope(benchmark::State& state) {
  active(state);
  for (auto _ : state) in_scope([] {});
  per_store(state, 1);
}
BENCHMARK(empty_scope);

void lock_and_unlock_in_scope(benchmark::State& state) {
  active(state);
  std::mutex m;
  for (auto _ : state) {
    in_scope([&] {
      for (unsigned i = 0; i < 100; ++i) std::lock_guard const hold(m);
    });
  }
  per_store(state, 100);
}
BENCHMARK(lock_and_unlock_in_scope);

void malloc_and_free_in_scope(benchmark::State& state) {
  active(state);
  for (auto _ : state) {
    in_scope([&] {
      for (unsigned i = 0; i < 100; ++i) srs_free(srs_malloc(64));
    });
  }
  per_store(state, 100);
}
BENCHMARK(malloc_and_free_in_scope);

}  // namespace

int main(int argc, char** argv) {
  setenv("ITM_DEFAULT_METHOD", "ml_wt", 0);  // else a lone thread's transactions are not logged at all
  std::vector<char*> args(argv, argv + argc);
  char file[] = "--benchmark_out=hotpath.json";
  char format[] = "--benchmark_out_format=json";
  bool named = false;
  for (int i = 1; i < argc; ++i) named |= strncmp(argv[i], "--benchmark_out=", 16) == 0;
  if (!named) args.insert(args.end(), {file, format});
  int n = static_cast<int>(args.size());
  args.push_back(nullptr);
  benchmark::Initialize(&n, args.data());
  if (benchmark::ReportUnrecognizedArguments(n, args.data())) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
