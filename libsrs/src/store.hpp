// Logged stores by words, for what copies and fills.
#ifndef SRS_SRC_STORE_HPP
#define SRS_SRC_STORE_HPP

#include "libsrs/src/thread.hpp"

namespace srs::lib {

inline uint64_t* tag_of(uint64_t word) {
  return reinterpret_cast<uint64_t*>(srs_process_.tag_base + (word & srs_process_.tag_mask));
}

// Logs and stores bytes `mask` of the aligned word at address `word`, from their places in `value`.
void put_word(Thread* t, uint64_t word, uint64_t mask, uint64_t value);

}  // namespace srs::lib

#endif
