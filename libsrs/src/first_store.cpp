// A scope's first store of a word, the part that must be quick: one size each, nothing but the log's steps. Whatever is
// unusual (odd alignment, strict mode, a thread's first store, a full ring, a signal handler) goes the general way.
#include <srs/log.h>
#include <srs/srs.h>

#include "libsrs/src/store.hpp"

namespace {

template <class W>
__attribute__((always_inline)) inline void first_store(void* p, uint64_t value) {
  auto const address = reinterpret_cast<uint64_t>(p);
  uint64_t const at = sizeof(W) == 8 ? 0 : address & 7;  // a whole word is aligned: srs_store64() sees to it
  srs_slot* const slot = srs_thread_.slot;
  // tag_mask is 0 in strict mode
  if (__builtin_expect(slot != nullptr && srs_process_.tag_mask != 0 && (at & (sizeof(W) - 1)) == 0, 1)) {
    uint64_t const word = address - at;
    uint64_t const mask = ((UINT64_C(1) << sizeof(W)) - 1) << at;
    uint64_t* const tag = srs::lib::tag_of(word);
    srs_log_step step;
    // The steps of srs_log_word() without its loop: whatever fails gives the claim back and starts anew in general.
    if (__builtin_expect(srs_log_claim(slot, &step.index) == SRS_LOG_DONE, 1)) {
      __atomic_store_n(&slot->pending_value, value << at * 8, __ATOMIC_RELAXED);
      if (__builtin_expect(
              srs_log_prepare(slot, tag, reinterpret_cast<uint64_t*>(word), SRS_REC_STORE, mask, 0, &step) != 0 &&
                  srs_log_take(slot, tag, sizeof(W) != 8, &step) != 0,
              1)) {
        srs_log_publish(slot, &step);
        __atomic_store_n(static_cast<W*>(p), static_cast<W>(value), __ATOMIC_RELAXED);
        srs_log_end(slot);
        return;
      }
      srs_log_end(slot);
    }
  }
  srs_store_slow_(p, value, sizeof(W));
}

}  // namespace

extern "C" {
__attribute__((flatten)) void srs_store8_slow_(void* p, uint8_t value) {
  first_store<uint8_t>(p, value);
}
__attribute__((flatten)) void srs_store16_slow_(void* p, uint16_t value) {
  first_store<uint16_t>(p, value);
}
__attribute__((flatten)) void srs_store32_slow_(void* p, uint32_t value) {
  first_store<uint32_t>(p, value);
}
__attribute__((flatten)) void srs_store64_slow_(void* p, uint64_t value) {
  first_store<uint64_t>(p, value);
}
}
