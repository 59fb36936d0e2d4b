// Class 1 out of line: the first store of a word by a scope, odd alignments, and the atomics.
#include "libsrs/src/store.hpp"

#include <srs/log.h>
#include <srs/srs.h>

#include <cstring>

namespace srs::lib {

namespace {

// Orders the log step and the store step of an atomic among the atomics of all threads: the log's order of a word
// is then memory's. Striped by word; held for nanoseconds, never over a fault (the word is touched before).
struct alignas(64) Stripe {
  std::atomic<uint32_t> taken;
};
Stripe stripes[256];

class StripeLock {
 public:
  StripeLock(Thread* t, uint64_t word) : t_(t), critical_(t) {
    std::atomic<uint32_t>& taken = stripes[(word >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 56].taken;
    for (;;) {
      if (taken.exchange(1, std::memory_order_acquire) == 0) break;
      while (taken.load(std::memory_order_relaxed) != 0) __builtin_ia32_pause();
    }
    t_->stripe = &taken;
  }
  ~StripeLock() {
    std::atomic<uint32_t>* const taken = t_->stripe;
    t_->stripe = nullptr;
    taken->store(0, std::memory_order_release);
  }
  StripeLock(StripeLock const&) = delete;
  StripeLock& operator=(StripeLock const&) = delete;

 private:
  Thread* t_;
  Critical critical_;
};

void plain_store(void* p, uint64_t value, unsigned size) {
  switch (size) {
    case 1:
      *static_cast<srs_u8_ volatile*>(p) = static_cast<uint8_t>(value);
      break;
    case 2:
      *static_cast<srs_u16_ volatile*>(p) = static_cast<uint16_t>(value);
      break;
    case 4:
      *static_cast<srs_u32_ volatile*>(p) = static_cast<uint32_t>(value);
      break;
    default:
      *static_cast<srs_u64_ volatile*>(p) = value;
  }
}

// True if `value` went out by the log and the store itself is left to do; then srs_log_end().
bool log_word(Thread* t, uint64_t word, uint64_t mask, uint64_t value) {
  for (;;) {
    switch (srs_log_store(t->slot, tag_of(word), reinterpret_cast<uint64_t*>(word), mask, value)) {
      case SRS_LOG_OWNED:
        return true;
      case SRS_LOG_DONE:
        return true;
      case SRS_LOG_FULL:
        hypercall(SRS_HC_DRAIN);
        break;
      default:
        return false;
    }
  }
}

void store_by_hypercall(Thread* t, uint64_t word, uint64_t mask, uint64_t value) {
  t->called = t->called + 1;
  hypercall(SRS_HC_STORE, word, value, mask);
}

uint64_t fetch_op(Thread* t, void* p, uint64_t operand, uint64_t expected, unsigned size, srs_fetch_op op) {
  uint64_t old = expected;
  t->called = t->called + 1;
  hypercall(SRS_HC_FETCH_OP, p, operand, size | static_cast<uint64_t>(op) << 8, &old);
  return old;
}

bool aligned(void const* p, unsigned size) {
  if ((reinterpret_cast<uintptr_t>(p) & (size - 1)) == 0) return true;
  report_fault(SRS_FAULT_ALIGNMENT, "an atomic on an address that is not a multiple of its size");
  return false;
}

template <class W>
uint64_t plain_exchange(void* p, uint64_t value) {
  return __atomic_exchange_n(static_cast<W*>(p), static_cast<W>(value), __ATOMIC_SEQ_CST);
}
template <class W>
uint64_t plain_cas(void* p, uint64_t expected, uint64_t desired) {
  W found = static_cast<W>(expected);
  __atomic_compare_exchange_n(static_cast<W*>(p), &found, static_cast<W>(desired), false, __ATOMIC_SEQ_CST,
                              __ATOMIC_SEQ_CST);
  return found;
}

// Exchange, or with `only_if` compare-and-swap.
template <class W>
uint64_t logged_exchange(Thread* t, void* p, uint64_t value, uint64_t const* only_if) {
  uint64_t const address = reinterpret_cast<uintptr_t>(p);
  uint64_t const word = address & ~UINT64_C(7);
  unsigned const shift = static_cast<unsigned>(address & 7) * 8;
  uint64_t const mask = (sizeof(W) == 8 ? 0xff : 0x0f) << (address & 7);
  // The fault of a bad address comes here, while nothing is held.
  W const before = __atomic_load_n(static_cast<W volatile*>(p), __ATOMIC_SEQ_CST);
  if (only_if != nullptr && before != static_cast<W>(*only_if)) return before;
  StripeLock lock(t, word);
  W const now = __atomic_load_n(static_cast<W*>(p), __ATOMIC_SEQ_CST);
  if (only_if != nullptr && now != static_cast<W>(*only_if)) return now;
  if (!log_word(t, word, mask, value << shift)) {
    return fetch_op(t, p, value, only_if != nullptr ? *only_if : 0, sizeof(W),
                    only_if != nullptr ? SRS_OP_CAS : SRS_OP_EXCHANGE);
  }
  // Only a plain store of another thread can come between: that is a race of the program.
  uint64_t const old = only_if != nullptr ? plain_cas<W>(p, *only_if, value) : plain_exchange<W>(p, value);
  srs_log_end(t->slot);
  return old;
}

template <class W>
uint64_t logged_add(Thread* t, void* p, uint64_t addend) {
  uint64_t const address = reinterpret_cast<uintptr_t>(p);
  uint64_t const word = address & ~UINT64_C(7);
  unsigned const shift = static_cast<unsigned>(address & 7) * 8;
  uint64_t const mask = (sizeof(W) == 8 ? 0xff : 0x0f) << (address & 7);
  uint64_t const placed = static_cast<W>(addend) * (UINT64_C(1) << shift);
  (void)*static_cast<W volatile*>(p);  // the fault of a bad address comes here, while nothing is held
  StripeLock lock(t, word);
  for (;;) {
    int const result = srs_log_delta(t->slot, tag_of(word), reinterpret_cast<uint64_t*>(word), mask, placed);
    if (result == SRS_LOG_DONE) break;
    if (result == SRS_LOG_NESTED) return fetch_op(t, p, addend, 0, sizeof(W), SRS_OP_ADD);
    hypercall(SRS_HC_DRAIN);
  }
  uint64_t const old = srs_delta_step(t->slot, reinterpret_cast<uint64_t*>(word), mask, placed);
  return static_cast<W>(old >> shift);
}

}  // namespace

void put_word(Thread* t, uint64_t word, uint64_t mask, uint64_t value) {
  if (srs_process_.strict || !log_word(t, word, mask, value)) {
    store_by_hypercall(t, word, mask, value);
    return;
  }
  srs_store_step(t->slot, reinterpret_cast<uint64_t*>(word), mask, value);
}

}  // namespace srs::lib

using namespace srs::lib;

extern "C" void srs_store_slow_(void* p, uint64_t value, unsigned size) {
  Thread* const t = thread();
  if (t == nullptr) {
    plain_store(p, value, size);
    return;
  }
  uint64_t const address = reinterpret_cast<uintptr_t>(p);
  uint64_t const word = address & ~UINT64_C(7);
  unsigned const at = static_cast<unsigned>(address & 7);
  if (size < 8) value &= (UINT64_C(1) << size * 8) - 1;
  uint64_t const bytes = (UINT64_C(1) << size) - 1;
  if (at + size > 8) {  // crosses into the next word
    put_word(t, word, bytes << at & 0xff, value << at * 8);
    put_word(t, word + 8, bytes >> (8 - at), value >> (8 - at) * 8);
    return;
  }
  if (srs_process_.strict || !log_word(t, word, bytes << at, value << at * 8)) {
    store_by_hypercall(t, word, bytes << at, value << at * 8);
    return;
  }
  plain_store(p, value, size);
  srs_log_end(t->slot);
}

extern "C" uint64_t srs_fetch_add_slow_(void* p, uint64_t addend, unsigned size) {
  if (!aligned(p, size)) return 0;
  Thread* const t = thread();
  if (t == nullptr) {
    return size == 4 ? __atomic_fetch_add(static_cast<uint32_t*>(p), static_cast<uint32_t>(addend), __ATOMIC_SEQ_CST)
                     : __atomic_fetch_add(static_cast<uint64_t*>(p), addend, __ATOMIC_SEQ_CST);
  }
  if (srs_process_.strict || t->stripe != nullptr) return fetch_op(t, p, addend, 0, size, SRS_OP_ADD);
  return size == 4 ? logged_add<uint32_t>(t, p, addend) : logged_add<uint64_t>(t, p, addend);
}

extern "C" uint64_t srs_exchange_slow_(void* p, uint64_t value, unsigned size) {
  if (!aligned(p, size)) return 0;
  if (size == 4) value &= UINT32_MAX;
  Thread* const t = thread();
  if (t == nullptr) return size == 4 ? plain_exchange<uint32_t>(p, value) : plain_exchange<uint64_t>(p, value);
  if (srs_process_.strict || t->stripe != nullptr) return fetch_op(t, p, value, 0, size, SRS_OP_EXCHANGE);
  return size == 4 ? logged_exchange<uint32_t>(t, p, value, nullptr) : logged_exchange<uint64_t>(t, p, value, nullptr);
}

extern "C" uint64_t srs_cas_slow_(void* p, uint64_t expected, uint64_t desired, unsigned size) {
  if (!aligned(p, size)) return 0;
  if (size == 4) desired &= UINT32_MAX;
  Thread* const t = thread();
  if (t == nullptr) {
    return size == 4 ? plain_cas<uint32_t>(p, expected, desired) : plain_cas<uint64_t>(p, expected, desired);
  }
  if (srs_process_.strict || t->stripe != nullptr) return fetch_op(t, p, desired, expected, size, SRS_OP_CAS);
  return size == 4 ? logged_exchange<uint32_t>(t, p, desired, &expected)
                   : logged_exchange<uint64_t>(t, p, desired, &expected);
}
