// The same stores in a transaction of GCC's software transactional memory: an undo log by somebody else.
#include "bench/hotpath_itm.hpp"

namespace hotpath {

void itm_first(uint64_t* words, unsigned n, uint64_t value) {
  __transaction_atomic {
    for (unsigned i = 0; i < n; ++i) words[i] = value;
  }
}

void itm_repeat(uint64_t* words, unsigned n, unsigned rounds, uint64_t value) {
  __transaction_atomic {
    for (unsigned k = 0; k < rounds; ++k) {
      for (unsigned i = 0; i < n; ++i) words[i] = value + k;
    }
  }
}

void itm_every_other(uint64_t* words, unsigned from, unsigned n, uint64_t value) {
  __transaction_atomic {
    for (unsigned i = from; i < n; i += 2) words[i] = value;
  }
}

}  // namespace hotpath
