// libsrs_rescue.so: preloaded into an unmodified server, it notes which pthread locks each thread holds, so that the
// monitor can give back those of a thread that it rescues (docs/rescue.md). Outside `vmsrs run --rescue` it passes
// everything through.
//
// No C++ runtime, no allocation. A lock's intent is written before its word may change and its owner after, so that a
// fault at any instruction finds either the truth or an intent.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <srs/rescue.h>
#include <stdlib.h>
#include <time.h>

#define API extern "C" __attribute__((visibility("default")))

namespace {

struct Real {
  int (*mutex_lock)(pthread_mutex_t*);
  int (*mutex_trylock)(pthread_mutex_t*);
  int (*mutex_timedlock)(pthread_mutex_t*, timespec const*);
  int (*mutex_clocklock)(pthread_mutex_t*, clockid_t, timespec const*);
  int (*mutex_unlock)(pthread_mutex_t*);
  int (*rdlock)(pthread_rwlock_t*);
  int (*tryrdlock)(pthread_rwlock_t*);
  int (*timedrdlock)(pthread_rwlock_t*, timespec const*);
  int (*clockrdlock)(pthread_rwlock_t*, clockid_t, timespec const*);
  int (*wrlock)(pthread_rwlock_t*);
  int (*trywrlock)(pthread_rwlock_t*);
  int (*timedwrlock)(pthread_rwlock_t*, timespec const*);
  int (*clockwrlock)(pthread_rwlock_t*, clockid_t, timespec const*);
  int (*rw_unlock)(pthread_rwlock_t*);
  int (*spin_lock)(pthread_spinlock_t*);
  int (*spin_trylock)(pthread_spinlock_t*);
  int (*spin_unlock)(pthread_spinlock_t*);
};
Real found;
bool ready = false;

template <class F>
void find(F& function, char const* name) {
  function = reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
  if (function == nullptr) abort();
}

Real const& real() {
  if (__builtin_expect(__atomic_load_n(&ready, __ATOMIC_ACQUIRE), true)) return found;
  Real r;
  find(r.mutex_lock, "pthread_mutex_lock");
  find(r.mutex_trylock, "pthread_mutex_trylock");
  find(r.mutex_timedlock, "pthread_mutex_timedlock");
  find(r.mutex_clocklock, "pthread_mutex_clocklock");
  find(r.mutex_unlock, "pthread_mutex_unlock");
  find(r.rdlock, "pthread_rwlock_rdlock");
  find(r.tryrdlock, "pthread_rwlock_tryrdlock");
  find(r.timedrdlock, "pthread_rwlock_timedrdlock");
  find(r.clockrdlock, "pthread_rwlock_clockrdlock");
  find(r.wrlock, "pthread_rwlock_wrlock");
  find(r.trywrlock, "pthread_rwlock_trywrlock");
  find(r.timedwrlock, "pthread_rwlock_timedwrlock");
  find(r.clockwrlock, "pthread_rwlock_clockwrlock");
  find(r.rw_unlock, "pthread_rwlock_unlock");
  find(r.spin_lock, "pthread_spin_lock");
  find(r.spin_trylock, "pthread_spin_trylock");
  find(r.spin_unlock, "pthread_spin_unlock");
  found = r;
  __atomic_store_n(&ready, true, __ATOMIC_RELEASE);
  return found;
}

bool attached = false;
srs_rescue_adapter adapter_known{};
__attribute__((tls_model("initial-exec"))) thread_local srs_rescue_holds holds;
__attribute__((tls_model("initial-exec"))) thread_local bool told;

long hypercall(long number, void const* a) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a) : "rcx", "r11", "memory");
  return result;
}

void barrier() {
  __asm__ volatile("" ::: "memory");
}

void intend(uint64_t step, void const* lock, uint64_t kind) {
  if (__builtin_expect(!told, false)) {
    told = true;
    hypercall(SRS_HC_RESCUE_THREAD, &holds);
  }
  holds.now = {reinterpret_cast<uint64_t>(lock), kind};
  barrier();
  holds.step = step;
  barrier();
}

void settled() {
  barrier();
  holds.step = SRS_RESCUE_NOTHING;
  barrier();
}

int taken(int result) {
  if (result == 0 || result == EOWNERDEAD) {
    uint64_t const n = holds.count;
    if (n < SRS_RESCUE_HOLDS) {
      holds.held[n] = holds.now;
      barrier();
      holds.count = n + 1;
    } else {
      holds.lost = 1;
    }
  }
  settled();
  return result;
}

void forget(uint64_t index) {
  for (uint64_t i = index; i + 1 < holds.count; ++i) holds.held[i] = holds.held[i + 1];
  --holds.count;
}

// The entry goes when the lock is free: a fault in between finds the intent.
int given(int result) {
  if (result == 0) {
    for (uint64_t i = holds.count; i-- > 0;) {
      if (holds.held[i].lock != holds.now.lock) continue;
      forget(i);
      break;
    }
  }
  settled();
  return result;
}

template <class F, class... Args>
int take(uint64_t kind, F function, void* lock, Args... args) {
  if (!attached) return function(args...);
  intend(SRS_RESCUE_LOCKING, lock, kind);
  return taken(function(args...));
}

template <class F, class Lock>
int give(F function, Lock* lock) {
  if (!attached) return function(lock);
  intend(SRS_RESCUE_UNLOCKING, const_cast<void*>(static_cast<void const volatile*>(lock)), 0);
  return given(function(lock));
}

// The monitor sends a rescued thread here, on its own stack below the read that it goes back to.
void pad(uint64_t release) {
  for (uint64_t i = holds.count; i-- > 0;) {
    if (i < 64 && (release >> i & 1) == 0) continue;
    srs_rescue_hold const hold = holds.held[i];
    forget(i);
    void* const lock = reinterpret_cast<void*>(hold.lock);
    if (hold.kind == SRS_RESCUE_MUTEX) real().mutex_unlock(static_cast<pthread_mutex_t*>(lock));
    if (hold.kind == SRS_RESCUE_SPIN) real().spin_unlock(static_cast<pthread_spinlock_t*>(lock));
    if (hold.kind == SRS_RESCUE_READ || hold.kind == SRS_RESCUE_WRITE)
      real().rw_unlock(static_cast<pthread_rwlock_t*>(lock));
  }
  holds.step = SRS_RESCUE_NOTHING;
  if (adapter_known.clean_up != nullptr) adapter_known.clean_up();
  hypercall(SRS_HC_RESCUE_DONE, nullptr);
  __builtin_trap();
}

__attribute__((constructor(101))) void attach() {
  srs_rescue_attach const info{SRS_RESCUE_VERSION, sizeof info, reinterpret_cast<uint64_t>(&pad)};
  (void)real();
  attached = hypercall(SRS_HC_RESCUE_ATTACH, &info) == 0;
}

}  // namespace

API int srs_rescue_register(struct srs_rescue_adapter const* adapter) {
  long const result = hypercall(SRS_HC_RESCUE_ADAPTER, adapter);
  if (result == 0) adapter_known = *adapter;
  return static_cast<int>(result);
}

API int pthread_mutex_lock(pthread_mutex_t* m) {
  return take(SRS_RESCUE_MUTEX, real().mutex_lock, m, m);
}
API int pthread_mutex_trylock(pthread_mutex_t* m) {
  return take(SRS_RESCUE_MUTEX, real().mutex_trylock, m, m);
}
API int pthread_mutex_timedlock(pthread_mutex_t* m, timespec const* at) {
  return take(SRS_RESCUE_MUTEX, real().mutex_timedlock, m, m, at);
}
API int pthread_mutex_clocklock(pthread_mutex_t* m, clockid_t clock, timespec const* at) {
  return take(SRS_RESCUE_MUTEX, real().mutex_clocklock, m, m, clock, at);
}
API int pthread_mutex_unlock(pthread_mutex_t* m) {
  return give(real().mutex_unlock, m);
}
API int pthread_rwlock_rdlock(pthread_rwlock_t* l) {
  return take(SRS_RESCUE_READ, real().rdlock, l, l);
}
API int pthread_rwlock_tryrdlock(pthread_rwlock_t* l) {
  return take(SRS_RESCUE_READ, real().tryrdlock, l, l);
}
API int pthread_rwlock_timedrdlock(pthread_rwlock_t* l, timespec const* at) {
  return take(SRS_RESCUE_READ, real().timedrdlock, l, l, at);
}
API int pthread_rwlock_clockrdlock(pthread_rwlock_t* l, clockid_t clock, timespec const* at) {
  return take(SRS_RESCUE_READ, real().clockrdlock, l, l, clock, at);
}
API int pthread_rwlock_wrlock(pthread_rwlock_t* l) {
  return take(SRS_RESCUE_WRITE, real().wrlock, l, l);
}
API int pthread_rwlock_trywrlock(pthread_rwlock_t* l) {
  return take(SRS_RESCUE_WRITE, real().trywrlock, l, l);
}
API int pthread_rwlock_timedwrlock(pthread_rwlock_t* l, timespec const* at) {
  return take(SRS_RESCUE_WRITE, real().timedwrlock, l, l, at);
}
API int pthread_rwlock_clockwrlock(pthread_rwlock_t* l, clockid_t clock, timespec const* at) {
  return take(SRS_RESCUE_WRITE, real().clockwrlock, l, l, clock, at);
}
API int pthread_rwlock_unlock(pthread_rwlock_t* l) {
  return give(real().rw_unlock, l);
}
API int pthread_spin_lock(pthread_spinlock_t* l) {
  return take(SRS_RESCUE_SPIN, real().spin_lock, const_cast<int*>(l), l);
}
API int pthread_spin_trylock(pthread_spinlock_t* l) {
  return take(SRS_RESCUE_SPIN, real().spin_trylock, const_cast<int*>(l), l);
}
API int pthread_spin_unlock(pthread_spinlock_t* l) {
  return give(real().spin_unlock, l);
}
