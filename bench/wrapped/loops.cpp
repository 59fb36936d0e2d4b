// Loops of stores, and a mix of requests without sockets; nothing in here knows of VMSRS. Prints "CASE NANOSECONDS"
// lines.
//
// usage: loops [SECONDS] [THREADS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "bench/wrapped/work.hpp"

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Best of many rounds, nanoseconds a unit.
template <class F>
void measure(char const* name, double seconds, double units, F&& round) {
  double best = 1e9;
  round();
  for (double const end = now() + seconds; now() < end;) {
    double const start = now();
    round();
    best = std::min(best, now() - start);
  }
  std::printf("%-16s %.3f\n", name, best / units * 1e9);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  double const seconds = argc > 1 ? std::atof(argv[1]) : 0.3;
  unsigned const threads = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 2;
  constexpr int kRepeat = 200;
  Loops* loops = new Loops();
  struct Case {
    char const* name;
    int which;
    double stores;
  };
  for (Case c :
       {Case{"longs", 0, kWords}, Case{"ints", 1, kWords}, Case{"bytes", 2, kWords}, Case{"doubles", 3, kWords},
        Case{"scattered", 4, kWords}, Case{"fields", 5, kWords}, Case{"memset", 6, kWords}}) {
    measure(c.name, seconds, c.stores * kRepeat, [&] { run_loop(loops, c.which, kRepeat); });
  }
  measure("first longs", seconds, kWords, [&] { run_loop(loops, 0, 1); });

  Mix* mix = new_mix();
  measure("request", seconds * 3, 200, [&] {
    for (int i = 0; i < 200; ++i) run_request(mix, i);
  });
  std::vector<std::thread> all;
  double const start = now();
  constexpr int kEach = 20000;
  for (unsigned t = 0; t < threads; ++t) {
    all.emplace_back([=] {
      for (int i = 0; i < kEach; ++i) run_request(mix, static_cast<int>(t) * kEach + i);
    });
  }
  for (auto& t : all) t.join();
  std::printf("%-16s %.3f\n", "request.threads", (now() - start) / (kEach * threads) * 1e9);
}
