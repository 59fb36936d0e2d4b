#ifndef BENCH_HOTPATH_ITM_HPP
#define BENCH_HOTPATH_ITM_HPP

#include <cstdint>

namespace hotpath {

// One transaction that stores each of n words once…
void itm_first(uint64_t* words, unsigned n, uint64_t value);
// …or in several rounds.
void itm_repeat(uint64_t* words, unsigned n, unsigned rounds, uint64_t value);
// One that stores words from, from + 2, … below n.
void itm_every_other(uint64_t* words, unsigned from, unsigned n, uint64_t value);

}  // namespace hotpath

#endif
