// The locks of a thread, as its scopes see them: what is held, what is held on to (isolation `hold`), what an abort
// gives back. The pthread functions that programs call are in interpose.cpp.
#ifndef SRS_SRC_LOCKS_HPP
#define SRS_SRC_LOCKS_HPP

#include <pthread.h>

#include "libsrs/src/thread.hpp"

namespace srs::lib {

// The C library's own functions.
struct RealLocks {
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
  int (*cond_wait)(pthread_cond_t*, pthread_mutex_t*);
  int (*cond_timedwait)(pthread_cond_t*, pthread_mutex_t*, timespec const*);
  int (*cond_clockwait)(pthread_cond_t*, pthread_mutex_t*, clockid_t, timespec const*);
};
extern RealLocks real_locks;
void locks_find_real();

// The end of a wait: none, or a point of a clock.
struct Until {
  timespec const* at;  // null: for ever
  clockid_t clock;
};

// Takes a lock for the program. `try_only`: EBUSY rather than wait. The pthread function's result.
int locks_acquire(Thread* t, void* lock, srs_lock_kind kind, bool try_only, Until until);
// The program gives it up: really, or at its scope's end.
int locks_release(Thread* t, void* lock, srs_lock_kind kind);
// pthread_cond_wait and its kin.
int locks_wait(Thread* t, pthread_cond_t* cond, pthread_mutex_t* mutex, Until until);

// The same, on the condition variable's own clock.
int locks_wait_timed(Thread* t, pthread_cond_t* cond, pthread_mutex_t* mutex, timespec const* at);

// A scope begins; scope `depth` has committed, or was aborted (with what it held on to).
void locks_begin(Thread* t);
void locks_commit(Thread* t, uint32_t depth);
void locks_abort(Thread* t, uint32_t depth, bool remember);
// The abort names a lock that the scope held.
void locks_undo(Thread* t, void* lock, uint32_t kind);

// This thread has taken (1) or given up (-1) a lock that all threads need, inside this library.
void shared_lock_held(int change);

// The thread is about to wait for others: what it holds on to is given up, and what was written under it is final.
// Nothing, if it holds on to nothing.
void locks_let_go(Thread* t, void* reason);

// Whether this thread's wait for `lock` closes a cycle through a lock that it only holds on to (wait_graph.cpp).
bool locks_close_cycle(Thread* t, uint64_t lock);

}  // namespace srs::lib

#endif
