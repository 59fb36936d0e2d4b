#ifndef BENCH_WRAPPED_WORK_HPP
#define BENCH_WRAPPED_WORK_HPP

#include <cstdint>

constexpr int kWords = 1024;
struct Pair {
  long a, b;
  int c, d;
};
struct Loops {
  long longs[kWords];
  int ints[kWords];
  char bytes[kWords];
  double doubles[kWords];
  long* scattered[kWords];
  Pair fields[kWords / 4];
};
struct Mix;

extern "C" {
// Loop number `which`, `repeat` times: kWords stores each.
void run_loop(Loops* loops, int which, int repeat);
Mix* new_mix();
// One request of the mix.
void run_request(Mix* mix, int number);
}

#endif
