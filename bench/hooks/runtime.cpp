// The callbacks of two other ways to see stores, GCC's ThreadSanitizer pass and clang's trace-stores, on libsrs's log:
// what bench/hooks.py compares with the plugin.
#include <srs/instrument.h>

namespace {
void log(void* p, uint64_t size) {
  srs_will_store_(reinterpret_cast<uint64_t>(p), size);
}
}  // namespace

#define NOTHING(name) \
  extern "C" void name(void*) {}
#define STORE(name, size)         \
  extern "C" void name(void* p) { \
    log(p, size);                 \
  }

#define SIZE(n)                       \
  NOTHING(__tsan_read##n)             \
  NOTHING(__tsan_unaligned_read##n)   \
  STORE(__tsan_write##n, n)           \
  STORE(__tsan_unaligned_write##n, n) \
  STORE(__sanitizer_cov_store##n, n)
SIZE(1)
SIZE(2)
SIZE(4)
SIZE(8)
SIZE(16)
NOTHING(__tsan_func_entry)
NOTHING(__tsan_vptr_read)
extern "C" {
void __tsan_init() {}
void __tsan_func_exit() {}
void __tsan_read_range(void*, uint64_t) {}
void __tsan_write_range(void* p, uint64_t n) {
  log(p, n);
}
void __tsan_vptr_update(void* p, void*) {
  log(p, 8);
}
void __tsan_atomic_thread_fence(int) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
void __tsan_atomic_signal_fence(int) {}
void __sanitizer_cov_trace_pc_guard(uint32_t*) {}
void __sanitizer_cov_trace_pc_guard_init(uint32_t*, uint32_t*) {}
void __sanitizer_cov_trace_pc() {}
}

#define OPERATION(bits, size, T, name)                                       \
  extern "C" T srs_i__atomic_fetch_##name##_##size(void* p, T v, int order); \
  extern "C" T __tsan_atomic##bits##_fetch_##name(void* p, T v, int order) { \
    return srs_i__atomic_fetch_##name##_##size(p, v, order);                 \
  }
#define ATOMIC(bits, size, T)                                                                            \
  OPERATION(bits, size, T, add)                                                                          \
  OPERATION(bits, size, T, sub)                                                                          \
  OPERATION(bits, size, T, and)                                                                          \
  OPERATION(bits, size, T, or)                                                                           \
  OPERATION(bits, size, T, xor)                                                                          \
  extern "C" T srs_i__atomic_exchange_##size(void* p, T v, int order);                                   \
  extern "C" void srs_i__atomic_store_##size(void* p, T v, int order);                                   \
  extern "C" bool srs_i__atomic_compare_exchange_##size(void* p, void* e, T v, bool weak, int a, int b); \
  extern "C" T __tsan_atomic##bits##_load(T* p, int) {                                                   \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                         \
  }                                                                                                      \
  extern "C" T __tsan_atomic##bits##_exchange(void* p, T v, int o) {                                     \
    return srs_i__atomic_exchange_##size(p, v, o);                                                       \
  }                                                                                                      \
  extern "C" void __tsan_atomic##bits##_store(void* p, T v, int o) {                                     \
    srs_i__atomic_store_##size(p, v, o);                                                                 \
  }                                                                                                      \
  extern "C" bool __tsan_atomic##bits##_compare_exchange_strong(void* p, void* e, T v, int a, int b) {   \
    return srs_i__atomic_compare_exchange_##size(p, e, v, false, a, b);                                  \
  }                                                                                                      \
  extern "C" bool __tsan_atomic##bits##_compare_exchange_weak(void* p, void* e, T v, int a, int b) {     \
    return srs_i__atomic_compare_exchange_##size(p, e, v, true, a, b);                                   \
  }
ATOMIC(8, 1, uint8_t)
ATOMIC(16, 2, uint16_t)
ATOMIC(32, 4, uint32_t)
ATOMIC(64, 8, uint64_t)
