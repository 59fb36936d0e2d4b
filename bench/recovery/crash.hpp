#ifndef BENCH_RECOVERY_CRASH_HPP
#define BENCH_RECOVERY_CRASH_HPP

struct Mix;

// A request that crashes when its work is done, before it is over.
extern "C" void run_crashing(Mix* mix, int number);

#endif
