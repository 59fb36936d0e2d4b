// The atomic operations of instrumented code: logged where memory is monitored, the processor's own elsewhere.
//
// Names are GCC's with srs_i in front. Additions are logged as addends, so that they commute with everybody's; what
// else changes an object goes through srs_exchange and srs_cas, of which the log's order is memory's. Operations are
// sequentially consistent whatever order was asked for. Objects of 1 and 2 bytes are changed as part of the 4-byte word
// that holds them; those of 16 bytes are not logged.
#include <srs/instrument.h>

namespace {

template <class T>
T cas(void* p, T expected, T desired) {
  if constexpr (sizeof(T) == 8) {
    return srs_cas64(p, expected, desired);
  } else if constexpr (sizeof(T) == 4) {
    return srs_cas32(p, expected, desired);
  } else {
    auto const address = reinterpret_cast<uintptr_t>(p);
    auto* const word = reinterpret_cast<uint32_t*>(address & ~UINT64_C(3));
    unsigned const shift = (address & 3) * 8;
    uint32_t const bits = static_cast<uint32_t>(static_cast<T>(~T{0})) << shift;
    for (;;) {
      uint32_t const seen = __atomic_load_n(word, __ATOMIC_SEQ_CST);
      T const now = static_cast<T>((seen & bits) >> shift);
      if (now != expected) return now;
      uint32_t const fresh = (seen & ~bits) | static_cast<uint32_t>(desired) << shift;
      if (srs_cas32(word, seen, fresh) == seen) return now;
    }
  }
}

template <class T, class F>
T update(void* p, F change) {
  T seen = __atomic_load_n(static_cast<T*>(p), __ATOMIC_SEQ_CST);
  for (;;) {
    T const found = cas<T>(p, seen, change(seen));
    if (found == seen) return seen;
    seen = found;
  }
}

template <class T>
T add(void* p, T value) {
  if constexpr (sizeof(T) == 8) {
    return srs_fetch_add64(p, value);
  } else if constexpr (sizeof(T) == 4) {
    return srs_fetch_add32(p, value);
  } else {
    return update<T>(p, [value](T seen) { return static_cast<T>(seen + value); });
  }
}

template <class T>
T exchange(void* p, T value) {
  if constexpr (sizeof(T) == 8) {
    return srs_exchange64(p, value);
  } else if constexpr (sizeof(T) == 4) {
    return srs_exchange32(p, value);
  } else {
    return update<T>(p, [value](T) { return value; });
  }
}

}  // namespace

// NOLINTBEGIN(bugprone-macro-parentheses): types and parts of names
#define OPERATION(T, size, name, native, logged, result)                          \
  extern "C" T srs_i__atomic_fetch_##name##_##size(void* p, T v, int) {           \
    if (!srs_watched_(p)) return native(static_cast<T*>(p), v, __ATOMIC_SEQ_CST); \
    return logged;                                                                \
  }                                                                               \
  extern "C" T srs_i__atomic_##name##_fetch_##size(void* p, T v, int order) {     \
    T const old = srs_i__atomic_fetch_##name##_##size(p, v, order);               \
    return static_cast<T>(result);                                                \
  }                                                                               \
  extern "C" T srs_i__sync_fetch_and_##name##_##size(void* p, T v) {              \
    return srs_i__atomic_fetch_##name##_##size(p, v, __ATOMIC_SEQ_CST);           \
  }                                                                               \
  extern "C" T srs_i__sync_##name##_and_fetch_##size(void* p, T v) {              \
    return srs_i__atomic_##name##_fetch_##size(p, v, __ATOMIC_SEQ_CST);           \
  }
#define CHANGE(T, what) update<T>(p, [v](T seen) { return static_cast<T>(what); })

#define SIZE(T, size)                                                                                               \
  OPERATION(T, size, add, __atomic_fetch_add, add<T>(p, v), old + v)                                                \
  OPERATION(T, size, sub, __atomic_fetch_sub, add<T>(p, static_cast<T>(-v)), old - v)                               \
  OPERATION(T, size, and, __atomic_fetch_and, CHANGE(T, seen& v), old& v)                                           \
  OPERATION(T, size, or, __atomic_fetch_or, CHANGE(T, seen | v), old | v)                                           \
  OPERATION(T, size, xor, __atomic_fetch_xor, CHANGE(T, seen ^ v), old ^ v)                                         \
  OPERATION(T, size, nand, __atomic_fetch_nand, CHANGE(T, ~(seen & v)), ~(old & v))                                 \
  extern "C" T srs_i__atomic_exchange_##size(void* p, T v, int) {                                                   \
    return srs_watched_(p) ? exchange<T>(p, v) : __atomic_exchange_n(static_cast<T*>(p), v, __ATOMIC_SEQ_CST);      \
  }                                                                                                                 \
  extern "C" void srs_i__atomic_store_##size(void* p, T v, int order) {                                             \
    if (srs_watched_(p)) {                                                                                          \
      exchange<T>(p, v);                                                                                            \
    } else if (order == __ATOMIC_SEQ_CST) {                                                                         \
      __atomic_store_n(static_cast<T*>(p), v, __ATOMIC_SEQ_CST);                                                    \
    } else {                                                                                                        \
      __atomic_store_n(static_cast<T*>(p), v, __ATOMIC_RELEASE);                                                    \
    }                                                                                                               \
  }                                                                                                                 \
  extern "C" bool srs_i__atomic_compare_exchange_##size(void* p, void* expected, T v, bool, int, int) {             \
    auto* const e = static_cast<T*>(expected);                                                                      \
    if (!srs_watched_(p)) {                                                                                         \
      return __atomic_compare_exchange_n(static_cast<T*>(p), e, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);      \
    }                                                                                                               \
    T const found = cas<T>(p, *e, v);                                                                               \
    if (found == *e) return true;                                                                                   \
    srs_will_store_(reinterpret_cast<uint64_t>(e), size);                                                           \
    *e = found;                                                                                                     \
    return false;                                                                                                   \
  }                                                                                                                 \
  extern "C" T srs_i__sync_val_compare_and_swap_##size(void* p, T expected, T v) {                                  \
    return srs_watched_(p) ? cas<T>(p, expected, v) : __sync_val_compare_and_swap(static_cast<T*>(p), expected, v); \
  }                                                                                                                 \
  extern "C" bool srs_i__sync_bool_compare_and_swap_##size(void* p, T expected, T v) {                              \
    return srs_i__sync_val_compare_and_swap_##size(p, expected, v) == expected;                                     \
  }                                                                                                                 \
  extern "C" T srs_i__sync_lock_test_and_set_##size(void* p, T v) {                                                 \
    return srs_i__atomic_exchange_##size(p, v, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                                 \
  extern "C" void srs_i__sync_lock_release_##size(void* p) {                                                        \
    srs_i__atomic_store_##size(p, 0, __ATOMIC_RELEASE);                                                             \
  }
// NOLINTEND(bugprone-macro-parentheses)

SIZE(uint8_t, 1)
SIZE(uint16_t, 2)
SIZE(uint32_t, 4)
SIZE(uint64_t, 8)

extern "C" bool srs_i__atomic_test_and_set(void* p, int order) {
  return srs_i__atomic_exchange_1(p, 1, order) != 0;
}
extern "C" void srs_i__atomic_clear(void* p, int order) {
  srs_i__atomic_store_1(p, 0, order);
}
