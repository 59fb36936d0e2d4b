#include "libsrs/src/locks.hpp"

#include <cerrno>
#include <ctime>

#include "libsrs/src/debts.hpp"
#include "libsrs/src/givers.hpp"
#include "libsrs/src/log_note.hpp"

namespace srs::lib {

namespace {

constexpr long kMillisecond = 1000000;
constexpr long kLongestSlice = 16 * kMillisecond;  // between looks for a cycle, and chances for a deadline
constexpr long kWaitSlice = 50 * kMillisecond;

HeldLock* find(Thread* t, void* lock) {
  auto const address = reinterpret_cast<uint64_t>(lock);
  for (uint32_t i = t->held_top; i-- > 0;) {
    if (t->held[i].address.load(std::memory_order_relaxed) == address) return &t->held[i];
  }
  return nullptr;
}

void forget(Thread* t, HeldLock* h) {
  h->address.store(0);
  uint32_t top = t->held_top;
  while (top > 0 && t->held[top - 1].address.load(std::memory_order_relaxed) == 0) --top;
  __atomic_store_n(&t->held_top, top, __ATOMIC_RELEASE);
}

HeldLock* remember(Thread* t, void* lock, srs_lock_kind kind, uint32_t depth) {
  uint32_t i = 0;
  while (i < t->held_top && t->held[i].address.load(std::memory_order_relaxed) != 0) ++i;
  if (i == kMaxHeld) {
    t->untracked++;
    return nullptr;
  }
  HeldLock* const h = &t->held[i];
  h->kind = kind;
  h->count = 1;
  h->depth = depth;
  h->taken_back = 0;
  h->stores = stores_of(t);
  h->address.store(reinterpret_cast<uint64_t>(lock));
  if (i == t->held_top) __atomic_store_n(&t->held_top, i + 1, __ATOMIC_RELEASE);
  return h;
}

// One more lock in the program's hands.
void now_held(Thread* t) {
  if (t->held_now == 0 && in_scope(t)) {
    if (stores_of(t) != t->stores_bare) t->scopes[t->slot->depth - 1].bare = true;
    if (innermost(t).isolation == SRS_RELEASE && stores_of(t) != t->stores_renewed) {
      renew_owner(t);
      t->stores_renewed = stores_of(t);
    }
  }
  t->held_now++;
}
void no_more_held(Thread* t) {
  if (t->held_now > 0) t->held_now--;
  if (t->held_now == 0) t->stores_bare = stores_of(t);
}

int real_try(void* lock, uint32_t kind) {
  switch (kind) {
    case SRS_LOCK_RDLOCK:
      return real_locks.tryrdlock(static_cast<pthread_rwlock_t*>(lock));
    case SRS_LOCK_WRLOCK:
      return real_locks.trywrlock(static_cast<pthread_rwlock_t*>(lock));
    default:
      return real_locks.mutex_trylock(static_cast<pthread_mutex_t*>(lock));
  }
}
int real_wait(void* lock, uint32_t kind, Until until) {
  if (until.at == nullptr) {
    switch (kind) {
      case SRS_LOCK_RDLOCK:
        return real_locks.rdlock(static_cast<pthread_rwlock_t*>(lock));
      case SRS_LOCK_WRLOCK:
        return real_locks.wrlock(static_cast<pthread_rwlock_t*>(lock));
      default:
        return real_locks.mutex_lock(static_cast<pthread_mutex_t*>(lock));
    }
  }
  switch (kind) {
    case SRS_LOCK_RDLOCK:
      return real_locks.clockrdlock(static_cast<pthread_rwlock_t*>(lock), until.clock, until.at);
    case SRS_LOCK_WRLOCK:
      return real_locks.clockwrlock(static_cast<pthread_rwlock_t*>(lock), until.clock, until.at);
    default:
      return real_locks.mutex_clocklock(static_cast<pthread_mutex_t*>(lock), until.clock, until.at);
  }
}
int real_unlock(void* lock, uint32_t kind) {
  if (kind == SRS_LOCK_NOTED) return 0;
  return kind == SRS_LOCK_MUTEX ? real_locks.mutex_unlock(static_cast<pthread_mutex_t*>(lock))
                                : real_locks.rw_unlock(static_cast<pthread_rwlock_t*>(lock));
}

bool earlier(timespec const& a, timespec const& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}
timespec after(clockid_t clock, long ns) {
  timespec at;
  clock_gettime(clock, &at);
  at.tv_nsec += ns;
  if (at.tv_nsec >= 1000000000) {
    at.tv_nsec -= 1000000000;
    at.tv_sec++;
  }
  return at;
}

bool holds_on(Thread const* t) {
  for (uint32_t i = 0; i < t->held_top; ++i) {
    if (t->held[i].address.load(std::memory_order_relaxed) != 0 && t->held[i].count == 0) return true;
  }
  return false;
}

// Whether the scopes of this thread wrote anything that giving up this lock would show to others.
bool wrote(Thread const* t, HeldLock const* h) {
  if (stores_of(t) != h->stores) return true;
  for (uint64_t i = 0; i < t->slot->depth; ++i) {
    if (t->scopes[i].bare) return true;
  }
  return false;
}

// What the innermost scope has written becomes final, and it goes on under a fresh owner.
void make_final(Thread* t, void* lock) {
  note(t, SRS_REC_FINAL, reinterpret_cast<uint64_t>(lock), 0);
  renew_owner(t);
  t->stores_renewed = stores_of(t);
  t->scopes[t->slot->depth - 1].bare = false;
  t->stores_bare = stores_of(t);
}

// Every lock that is only held on to is given up, since what was written under it is final (or must be let go).
void give_up_holds(Thread* t) {
  for (uint32_t i = t->held_top; i-- > 0;) {
    HeldLock* const h = &t->held[i];
    auto const address = h->address.load(std::memory_order_relaxed);
    if (address == 0 || h->count != 0) continue;
    real_unlock(reinterpret_cast<void*>(address), h->kind);
    note(t, SRS_REC_UNLOCK, address, h->kind);
    forget(t, h);
  }
}

int acquired(Thread* t, void* lock, srs_lock_kind kind, int result) {
  if (result != 0 && result != EOWNERDEAD) return result;
  now_held(t);
  remember(t, lock, kind, static_cast<uint32_t>(t->slot->depth));
  if (in_scope(t)) note(t, SRS_REC_LOCK, reinterpret_cast<uint64_t>(lock), kind, giver_of(lock));
  return result;
}

// Waits in slices: between them a deadline may strike, and cycles are looked for.
int wait_in_scope(Thread* t, void* lock, srs_lock_kind kind, Until until) {
  auto const address = reinterpret_cast<uint64_t>(lock);
  long slice = kMillisecond;
  if (t->debts.size() != 0) {  // whoever has the lock may wait for a post
    Critical critical(t);
    if (debts_put_off(t)) {
      make_final(t, lock);
      give_up_holds(t);
      debts_post_now(t);
    }
  }
  __atomic_store_n(&t->slot->waiting_for, address, __ATOMIC_SEQ_CST);
  for (;;) {
    if (holds_on(t) && locks_close_cycle(t, address)) {
      Critical critical(t);
      make_final(t, lock);
      give_up_holds(t);
      hypercall(SRS_HC_LOCK_CYCLE, lock);
    }
    {
      Critical critical(t);
      clockid_t const clock = until.at != nullptr ? until.clock : CLOCK_MONOTONIC;
      timespec end = after(clock, slice);
      bool const last = until.at != nullptr && !earlier(end, *until.at);
      if (last) end = *until.at;
      int const result = real_wait(lock, kind, {&end, clock});
      if (result == EINVAL && until.at == nullptr) break;  // a kind of lock that cannot wait in slices
      if (result != ETIMEDOUT || last) {
        __atomic_store_n(&t->slot->waiting_for, 0, __ATOMIC_SEQ_CST);
        return acquired(t, lock, kind, result);
      }
    }
    hypercall(SRS_HC_GATE);
    if (slice < kLongestSlice) slice *= 2;
  }
  int const result = real_wait(lock, kind, until);
  __atomic_store_n(&t->slot->waiting_for, 0, __ATOMIC_SEQ_CST);
  return acquired(t, lock, kind, result);
}

}  // namespace

void locks_let_go(Thread* t, void* reason) {
  if (!in_scope(t) || innermost(t).isolation != SRS_HOLD) return;
  if (!holds_on(t) && stores_of(t) == t->scopes[0].stores_begun) return;
  make_final(t, reason);
  give_up_holds(t);
}

int locks_acquire(Thread* t, void* lock, srs_lock_kind kind, bool try_only, Until until) {
  HeldLock* h = find(t, lock);
  if (h != nullptr && h->count == 0) {  // ours still
    if (kind != SRS_LOCK_WRLOCK || h->kind == SRS_LOCK_WRLOCK) {
      Critical critical(t);
      now_held(t);
      h->taken_back = t->slot->depth > h->put_off ? static_cast<uint32_t>(t->slot->depth) : 0;
      h->count = 1;
      return 0;
    }
    Critical critical(t);  // read-held, wanted for writing: we would wait for ourselves
    make_final(t, lock);
    give_up_holds(t);
    hypercall(SRS_HC_LOCK_CYCLE, lock);
    h = nullptr;
  }
  if (h != nullptr) {  // recursive, or the program's mistake: the C library knows
    int const result = try_only ? real_try(lock, kind) : real_wait(lock, kind, until);
    if (result == 0) h->count++;
    return result;
  }
  {
    Critical critical(t);
    int const result = real_try(lock, kind);
    if (result != EBUSY && result != EAGAIN) return acquired(t, lock, kind, result);
    if (try_only) return result;
  }
  if (in_scope(t)) return wait_in_scope(t, lock, kind, until);
  __atomic_store_n(&t->slot->waiting_for, reinterpret_cast<uint64_t>(lock), __ATOMIC_SEQ_CST);
  int const result = real_wait(lock, kind, until);
  __atomic_store_n(&t->slot->waiting_for, 0, __ATOMIC_SEQ_CST);
  return acquired(t, lock, kind, result);
}

int locks_release(Thread* t, void* lock, srs_lock_kind kind) {
  HeldLock* const h = find(t, lock);
  if (h == nullptr) {
    if (t->unwinding) {
      for (size_t i = t->undone.size(); i-- > 0;) {
        if (t->undone[i] != lock) continue;
        t->undone.remove(i);
        return 0;
      }
    }
    int const result = real_unlock(lock, kind);
    if (result == 0 && t->untracked > 0) {
      t->untracked--;
      no_more_held(t);
      if (in_scope(t)) note(t, SRS_REC_UNLOCK, reinterpret_cast<uint64_t>(lock), kind);
    }
    return result;
  }
  if (h->count == 0) return EPERM;
  if (h->count > 1) {
    int const result = real_unlock(lock, h->kind);
    if (result == 0) h->count--;
    return result;
  }
  Critical critical(t);
  if (in_scope(t)) {
    uint32_t const isolation = innermost(t).isolation;
    if (isolation == SRS_HOLD && h->kind != SRS_LOCK_NOTED && wrote(t, h)) {
      if (h->taken_back == 0) h->put_off = static_cast<uint32_t>(t->slot->depth);
      h->taken_back = 0;
      h->count = 0;
      no_more_held(t);
      return 0;
    }
    if (isolation == SRS_RELEASE && t->held_now == 1 && stores_of(t) != t->stores_renewed) make_final(t, lock);
  }
  if (in_scope(t) && innermost(t).isolation == SRS_TRACK && wrote(t, h)) giver_set(lock, t->slot->owner);
  int const result = real_unlock(lock, h->kind);
  if (result != 0) return result;
  uint32_t const held_kind = h->kind;
  forget(t, h);
  no_more_held(t);
  if (in_scope(t)) note(t, SRS_REC_UNLOCK, reinterpret_cast<uint64_t>(lock), held_kind);
  return 0;
}

int locks_wait(Thread* t, pthread_cond_t* cond, pthread_mutex_t* mutex, Until until) {
  HeldLock* h = find(t, mutex);
  bool const scoped = in_scope(t);
  clockid_t const clock = until.at != nullptr ? until.clock : CLOCK_MONOTONIC;
  if (h == nullptr || h->count == 0) {
    return until.at == nullptr ? real_locks.cond_wait(cond, mutex)
                               : real_locks.cond_clockwait(cond, mutex, clock, until.at);
  }
  uint32_t const depth = h->depth;
  uint32_t const count = h->count;
  auto const address = reinterpret_cast<uint64_t>(mutex);
  if (scoped) {
    Critical critical(t);
    uint32_t const isolation = innermost(t).isolation;
    // Whoever is to signal may need what this scope holds on to.
    debts_post_now(t);
    if (isolation == SRS_HOLD && (holds_on(t) || wrote(t, h))) {
      make_final(t, mutex);
      give_up_holds(t);
    } else if (isolation == SRS_RELEASE && stores_of(t) != t->stores_renewed) {
      make_final(t, mutex);
    }
    if (isolation == SRS_TRACK && wrote(t, h)) giver_set(mutex, t->slot->owner);
    note(t, SRS_REC_UNLOCK, address, SRS_LOCK_MUTEX);
  }
  forget(t, h);
  no_more_held(t);
  int result;
  bool slept = false;
  {
    // In slices, so that a deadline can strike while the mutex is ours: a waiter that vanished from within would
    // take a signal with it. A slice's end is a wake-up without cause, which the standard allows.
    Critical critical(scoped ? t : nullptr);
    if (!scoped) {
      result = until.at == nullptr ? real_locks.cond_wait(cond, mutex)
                                   : real_locks.cond_clockwait(cond, mutex, clock, until.at);
    } else {
      timespec end = after(clock, kWaitSlice);
      bool const last = until.at != nullptr && !earlier(end, *until.at);
      if (last) end = *until.at;
      result = real_locks.cond_clockwait(cond, mutex, clock, &end);
      slept = result == ETIMEDOUT && !last;
      if (slept) result = 0;
    }
    now_held(t);
    h = remember(t, mutex, SRS_LOCK_MUTEX, depth);
    if (h != nullptr) h->count = count;
    if (scoped) note(t, SRS_REC_LOCK, address, SRS_LOCK_MUTEX, giver_of(mutex));
    if (scoped && result == 0 && !slept) debts_woken(t, cond);
  }
  if (slept) hypercall(SRS_HC_GATE);
  return result;
}

int locks_wait_timed(Thread* t, pthread_cond_t* cond, pthread_mutex_t* mutex, timespec const* at) {
  // The C library keeps the clock that pthread_condattr_setclock chose in this bit.
  unsigned const monotonic = 2;
  bool const chosen = (__atomic_load_n(&cond->__data.__wrefs, __ATOMIC_RELAXED) & monotonic) != 0;
  return locks_wait(t, cond, mutex, {at, chosen ? CLOCK_MONOTONIC : CLOCK_REALTIME});
}

void locks_begin(Thread* t) {
  if (in_scope(t) && t->held_now == 0 && stores_of(t) != t->stores_bare) t->scopes[t->slot->depth - 1].bare = true;
  t->stores_bare = stores_of(t);
}

void locks_commit(Thread* t, uint32_t depth) {
  if (depth > 0) {
    if (t->scopes[depth].bare) t->scopes[depth - 1].bare = true;
    for (uint32_t i = 0; i < t->held_top; ++i) {
      HeldLock& h = t->held[i];
      if (h.depth > depth) h.depth = depth;
      if (h.put_off > depth) h.put_off = depth;
      if (h.taken_back > depth) h.taken_back = h.put_off < depth ? depth : 0;
    }
    // What the inner scope wrote is the outer's now, under an owner that is not the outer's.
    t->stores_renewed = stores_of(t) - 1;
    return;
  }
  for (uint32_t i = t->held_top; i-- > 0;) {
    HeldLock* const h = &t->held[i];
    auto const address = h->address.load(std::memory_order_relaxed);
    if (address == 0) continue;
    h->depth = 0;
    if (h->count != 0) continue;
    real_unlock(reinterpret_cast<void*>(address), h->kind);
    forget(t, h);
  }
}

void locks_abort(Thread* t, uint32_t depth, bool remember_them) {
  for (uint32_t i = t->held_top; i-- > 0;) {
    HeldLock* const h = &t->held[i];
    auto const address = h->address.load(std::memory_order_relaxed);
    if (address == 0) continue;
    if (h->depth <= depth) {
      if (h->count == 0 && h->put_off > depth) {
        h->count = 1;  // it was never given up
      } else if (h->count != 0 && h->taken_back > depth) {
        h->count = 0;  // it was never taken back
        h->taken_back = 0;
      }
      continue;
    }
    uint32_t const kind = h->kind;
    uint32_t const times = h->count > 1 ? h->count : 1;
    // A lock that the scope only held on to is no more the destructors' to unlock.
    if (remember_them && h->count != 0) t->undone.push(reinterpret_cast<void*>(address));
    forget(t, h);  // first: if the lock's memory is gone, the landing goes on with the next one
    for (uint32_t n = times; n > 0; --n) real_unlock(reinterpret_cast<void*>(address), kind);
  }
  t->held_now = 0;
  for (uint32_t i = 0; i < t->held_top; ++i) {
    if (t->held[i].address.load(std::memory_order_relaxed) != 0 && t->held[i].count != 0) t->held_now++;
  }
  t->untracked = 0;
  t->stores_bare = stores_of(t);
}

void locks_undo(Thread* t, void* lock, uint32_t kind) {
  if (find(t, lock) != nullptr) return;  // locks_abort() does it, once
  if (t->untracked > 0) {
    real_unlock(lock, kind);
    t->untracked--;
  }
}

}  // namespace srs::lib

extern "C" void srs_lock_note(void const* lock, int taken) {
  using namespace srs::lib;
  Thread* const t = thread();
  if (t == nullptr) return;
  void* const l = const_cast<void*>(lock);
  if (taken == 0) {
    if (find(t, l) != nullptr) locks_release(t, l, SRS_LOCK_NOTED);
    return;
  }
  HeldLock* const h = find(t, l);
  if (h != nullptr) {
    h->count++;
    return;
  }
  Critical critical(t);
  acquired(t, l, SRS_LOCK_NOTED, 0);
}
