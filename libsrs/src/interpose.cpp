// The pthread functions, in front of the C library's. Outside the monitor, and before this library is ready, they
// pass straight through.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include "libsrs/src/locks.hpp"

namespace srs::lib {

RealLocks real_locks;

namespace {

template <class F>
void find_one(F& function, char const* name, char const* version = nullptr) {
  void* found = version != nullptr ? dlvsym(RTLD_NEXT, name, version) : nullptr;
  if (found == nullptr) found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) die("the C library lacks a pthread function (fully static programs are not supported)");
  function = reinterpret_cast<F>(found);
}

}  // namespace

void locks_find_real() {
  if (real_locks.cond_clockwait != nullptr) return;
  RealLocks r;
  find_one(r.mutex_lock, "pthread_mutex_lock");
  find_one(r.mutex_trylock, "pthread_mutex_trylock");
  find_one(r.mutex_timedlock, "pthread_mutex_timedlock");
  find_one(r.mutex_clocklock, "pthread_mutex_clocklock");
  find_one(r.mutex_unlock, "pthread_mutex_unlock");
  find_one(r.rdlock, "pthread_rwlock_rdlock");
  find_one(r.tryrdlock, "pthread_rwlock_tryrdlock");
  find_one(r.timedrdlock, "pthread_rwlock_timedrdlock");
  find_one(r.clockrdlock, "pthread_rwlock_clockrdlock");
  find_one(r.wrlock, "pthread_rwlock_wrlock");
  find_one(r.trywrlock, "pthread_rwlock_trywrlock");
  find_one(r.timedwrlock, "pthread_rwlock_timedwrlock");
  find_one(r.clockwrlock, "pthread_rwlock_clockwrlock");
  find_one(r.rw_unlock, "pthread_rwlock_unlock");
  // Two versions of these exist; the older takes another structure.
  find_one(r.cond_wait, "pthread_cond_wait", "GLIBC_2.3.2");
  find_one(r.cond_timedwait, "pthread_cond_timedwait", "GLIBC_2.3.2");
  find_one(r.cond_clockwait, "pthread_cond_clockwait");
  real_locks = r;
}

namespace {

// In the view of the policy `run` every lock is granted, and every wait over at once.
int granted_lock(pthread_mutex_t*) {
  return 0;
}
int granted_lock_until(pthread_mutex_t*, timespec const*) {
  return 0;
}
int granted_lock_clock(pthread_mutex_t*, clockid_t, timespec const*) {
  return 0;
}
int granted_rw(pthread_rwlock_t*) {
  return 0;
}
int granted_rw_until(pthread_rwlock_t*, timespec const*) {
  return 0;
}
int granted_rw_clock(pthread_rwlock_t*, clockid_t, timespec const*) {
  return 0;
}
int granted_wait(pthread_cond_t*, pthread_mutex_t*) {
  return 0;
}
int granted_wait_until(pthread_cond_t*, pthread_mutex_t*, timespec const*) {
  return 0;
}
int granted_wait_clock(pthread_cond_t*, pthread_mutex_t*, clockid_t, timespec const*) {
  return 0;
}
constexpr RealLocks kGranted = {
    granted_lock,     granted_lock,     granted_lock_until, granted_lock_clock, granted_lock,       granted_rw,
    granted_rw,       granted_rw_until, granted_rw_clock,   granted_rw,         granted_rw,         granted_rw_until,
    granted_rw_clock, granted_rw,       granted_wait,       granted_wait_until, granted_wait_clock,
};

RealLocks const& real() {
  if (restricted()) return kGranted;
  if (__builtin_expect(real_locks.cond_clockwait == nullptr, 0)) locks_find_real();
  return real_locks;
}
Thread* known() {
  return restricted() ? nullptr : thread_if_known();
}
constexpr Until kForEver{nullptr, CLOCK_MONOTONIC};

// May begin before the thread has a slot.
__thread uint64_t shared_locks __attribute__((tls_model("initial-exec")));

}  // namespace

void shared_lock_held(int change) {
  shared_locks = shared_locks + static_cast<uint64_t>(static_cast<int64_t>(change));
  Thread* const t = known();
  if (t != nullptr) t->slot->shared_locks = shared_locks;
}

}  // namespace srs::lib

using namespace srs::lib;

extern "C" {

SRS_API int pthread_mutex_lock(pthread_mutex_t* m) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.mutex_lock(m) : locks_acquire(t, m, SRS_LOCK_MUTEX, false, kForEver);
}
SRS_API int pthread_mutex_trylock(pthread_mutex_t* m) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.mutex_trylock(m) : locks_acquire(t, m, SRS_LOCK_MUTEX, true, kForEver);
}
SRS_API int pthread_mutex_timedlock(pthread_mutex_t* m, timespec const* at) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.mutex_timedlock(m, at) : locks_acquire(t, m, SRS_LOCK_MUTEX, false, {at, CLOCK_REALTIME});
}
SRS_API int pthread_mutex_clocklock(pthread_mutex_t* m, clockid_t clock, timespec const* at) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.mutex_clocklock(m, clock, at) : locks_acquire(t, m, SRS_LOCK_MUTEX, false, {at, clock});
}
SRS_API int pthread_mutex_unlock(pthread_mutex_t* m) {
  RealLocks const& r = real();
  Thread* const t = known();
  return t == nullptr ? r.mutex_unlock(m) : locks_release(t, m, SRS_LOCK_MUTEX);
}

SRS_API int pthread_rwlock_rdlock(pthread_rwlock_t* l) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.rdlock(l) : locks_acquire(t, l, SRS_LOCK_RDLOCK, false, kForEver);
}
SRS_API int pthread_rwlock_tryrdlock(pthread_rwlock_t* l) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.tryrdlock(l) : locks_acquire(t, l, SRS_LOCK_RDLOCK, true, kForEver);
}
SRS_API int pthread_rwlock_timedrdlock(pthread_rwlock_t* l, timespec const* at) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.timedrdlock(l, at) : locks_acquire(t, l, SRS_LOCK_RDLOCK, false, {at, CLOCK_REALTIME});
}
SRS_API int pthread_rwlock_clockrdlock(pthread_rwlock_t* l, clockid_t clock, timespec const* at) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.clockrdlock(l, clock, at) : locks_acquire(t, l, SRS_LOCK_RDLOCK, false, {at, clock});
}
SRS_API int pthread_rwlock_wrlock(pthread_rwlock_t* l) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.wrlock(l) : locks_acquire(t, l, SRS_LOCK_WRLOCK, false, kForEver);
}
SRS_API int pthread_rwlock_trywrlock(pthread_rwlock_t* l) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.trywrlock(l) : locks_acquire(t, l, SRS_LOCK_WRLOCK, true, kForEver);
}
SRS_API int pthread_rwlock_timedwrlock(pthread_rwlock_t* l, timespec const* at) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.timedwrlock(l, at) : locks_acquire(t, l, SRS_LOCK_WRLOCK, false, {at, CLOCK_REALTIME});
}
SRS_API int pthread_rwlock_clockwrlock(pthread_rwlock_t* l, clockid_t clock, timespec const* at) {
  RealLocks const& r = real();
  Thread* const t = thread();
  return t == nullptr ? r.clockwrlock(l, clock, at) : locks_acquire(t, l, SRS_LOCK_WRLOCK, false, {at, clock});
}
SRS_API int pthread_rwlock_unlock(pthread_rwlock_t* l) {
  RealLocks const& r = real();
  Thread* const t = known();
  return t == nullptr ? r.rw_unlock(l) : locks_release(t, l, SRS_LOCK_WRLOCK);
}

SRS_API int pthread_cond_wait(pthread_cond_t* c, pthread_mutex_t* m) {
  RealLocks const& r = real();
  Thread* const t = known();
  return t == nullptr ? r.cond_wait(c, m) : locks_wait(t, c, m, kForEver);
}
SRS_API int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m, timespec const* at) {
  RealLocks const& r = real();
  Thread* const t = known();
  return t == nullptr ? r.cond_timedwait(c, m, at) : locks_wait_timed(t, c, m, at);
}
SRS_API int pthread_cond_clockwait(pthread_cond_t* c, pthread_mutex_t* m, clockid_t clock, timespec const* at) {
  RealLocks const& r = real();
  Thread* const t = known();
  return t == nullptr ? r.cond_clockwait(c, m, clock, at) : locks_wait(t, c, m, {at, clock});
}

// For the private jemalloc: its locks are no locks of the program. A thread that faults with one held cannot be landed
// (abi.h, shared_locks).
int vje_pthread_mutex_lock(pthread_mutex_t* m) {
  int const result = real().mutex_lock(m);
  if (result == 0) shared_lock_held(1);
  return result;
}
int vje_pthread_mutex_trylock(pthread_mutex_t* m) {
  int const result = real().mutex_trylock(m);
  if (result == 0) shared_lock_held(1);
  return result;
}
int vje_pthread_mutex_unlock(pthread_mutex_t* m) {
  int const result = real().mutex_unlock(m);
  shared_lock_held(-1);
  return result;
}
int vje_pthread_cond_wait(pthread_cond_t* c, pthread_mutex_t* m) {
  return real().cond_wait(c, m);
}
int vje_pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m, timespec const* at) {
  return real().cond_timedwait(c, m, at);
}
}
