#include "libsrs/src/debts.hpp"

#include <dlfcn.h>
#include <srs/srs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "libsrs/src/log_note.hpp"

namespace srs::lib {
namespace {

enum Kind : uint32_t {
  kTaken,      // a semaphore: an abort posts it
  kPosted,     // an abort takes the post back, if nobody has it yet
  kPutOff,     // a post that the commit makes
  kWoken,      // a condition variable: an abort wakes its waiters
  kWakes,      // the same, by the program's word
  kSendsEvent  // an eventfd: an abort writes `value` to it
};

constexpr long kSlice = 50'000'000;

void owe(Thread* t, Kind kind, void* object, uint64_t value = 0) {
  t->debts.push({object, value, kind, static_cast<uint32_t>(t->slot->depth)});
}

// Removes the latest debt of that kind; false: there is none.
bool strike_out(Thread* t, Kind kind, void const* object) {
  for (size_t i = t->debts.size(); i-- > 0;) {
    if (t->debts[i].kind != kind || t->debts[i].object != object) continue;
    for (size_t j = i; j + 1 < t->debts.size(); ++j) t->debts[j] = t->debts[j + 1];
    t->debts.shrink(t->debts.size() - 1);
    return true;
  }
  return false;
}

template <class F>
void find_one(F& function, char const* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) die("the C library lacks a semaphore function");
  function = reinterpret_cast<F>(found);
}

void tell_post_taken(sem_t const* semaphore) {
  char text[96] = "the semaphore at 0x";
  size_t n = strlen(text);
  for (int shift = 44; shift >= 0; shift -= 4)
    text[n++] = "0123456789abcdef"[reinterpret_cast<uint64_t>(semaphore) >> shift & 15];
  strcpy(text + n, ": a post of the scope was taken by another thread");
  hypercall(SRS_HC_NOT_WHOLE, text);
}

bool wrote(Thread const* t) {
  return stores_of(t) != t->scopes[0].stores_begun;
}

}  // namespace

RealSemaphores const& real_semaphores() {
  static RealSemaphores real;
  if (real.post == nullptr) {
    find_one(real.wait, "sem_wait");
    find_one(real.trywait, "sem_trywait");
    find_one(real.timedwait, "sem_timedwait");
    find_one(real.clockwait, "sem_clockwait");
    find_one(real.post, "sem_post");
  }
  return real;
}

int semaphore_take(Thread* t, sem_t* semaphore, bool try_only, Until until) {
  RealSemaphores const& real = real_semaphores();
  {
    Critical critical(t);
    if (strike_out(t, kPutOff, semaphore)) return 0;  // as a lock that is taken again
    if (real.trywait(semaphore) == 0) {
      owe(t, kTaken, semaphore);
      return 0;
    }
    if (errno != EAGAIN || try_only) return -1;
    // Whoever is to post may need what this scope holds on to.
    locks_let_go(t, semaphore);
    debts_post_now(t);
  }
  for (;;) {
    bool last;
    int result;
    {
      Critical critical(t);
      clockid_t const clock = until.at != nullptr ? until.clock : CLOCK_MONOTONIC;
      timespec end;
      clock_gettime(clock, &end);
      end.tv_nsec += kSlice;
      if (end.tv_nsec >= 1'000'000'000) {
        end.tv_nsec -= 1'000'000'000;
        end.tv_sec++;
      }
      last = until.at != nullptr &&
             (until.at->tv_sec != end.tv_sec ? until.at->tv_sec < end.tv_sec : until.at->tv_nsec < end.tv_nsec);
      result = real.clockwait(semaphore, clock, last ? until.at : &end);
      if (result == 0) owe(t, kTaken, semaphore);
    }
    if (result == 0 || errno != ETIMEDOUT || last) return result;
    hypercall(SRS_HC_GATE);
  }
}

int semaphore_post(Thread* t, sem_t* semaphore) {
  if (t->unwinding) {
    for (size_t i = t->undone.size(); i-- > 0;) {  // the abort has posted it
      if (t->undone[i] != semaphore) continue;
      t->undone.remove(i);
      return 0;
    }
  }
  Critical critical(t);
  // Others would see what it guards.
  if (innermost(t).isolation == SRS_HOLD && wrote(t)) {
    owe(t, kPutOff, semaphore);
    return 0;
  }
  int const result = real_semaphores().post(semaphore);
  if (result == 0 && !strike_out(t, kTaken, semaphore)) owe(t, kPosted, semaphore);
  return result;
}

void debts_woken(Thread* t, pthread_cond_t* cond) {
  for (size_t i = 0; i < t->debts.size(); ++i) {
    if (t->debts[i].kind == kWoken && t->debts[i].object == cond) return;
  }
  owe(t, kWoken, cond);
}

bool debts_put_off(Thread* t) {
  for (size_t i = 0; i < t->debts.size(); ++i) {
    if (t->debts[i].kind == kPutOff) return true;
  }
  return false;
}

void debts_post_now(Thread* t) {
  for (size_t i = 0; i < t->debts.size(); ++i) {
    Debt& debt = t->debts[i];
    if (debt.kind != kPutOff) continue;
    debt.kind = kPosted;
    real_semaphores().post(static_cast<sem_t*>(debt.object));
  }
}

void debts_commit(Thread* t, uint32_t depth) {
  if (t->debts.size() == 0) return;
  if (depth > 0) {
    for (size_t i = 0; i < t->debts.size(); ++i) {
      if (t->debts[i].depth > depth) t->debts[i].depth = depth;
    }
    return;
  }
  for (size_t i = 0; i < t->debts.size(); ++i) {
    if (t->debts[i].kind == kPutOff) real_semaphores().post(static_cast<sem_t*>(t->debts[i].object));
  }
  t->debts.shrink(0);
}

void debts_abort(Thread* t, uint32_t depth, bool remember) {
  while (t->debts.size() > 0) {
    Debt const debt = t->debts[t->debts.size() - 1];
    if (debt.depth <= depth) break;
    t->debts.shrink(t->debts.size() - 1);  // first: if the object's memory is gone, the landing goes on with the next
    std::atomic_signal_fence(std::memory_order_seq_cst);
    auto* const semaphore = static_cast<sem_t*>(debt.object);
    switch (debt.kind) {
      case kTaken:
        if (remember) t->undone.push(debt.object);
        real_semaphores().post(semaphore);
        break;
      case kPosted:
        if (real_semaphores().trywait(semaphore) != 0) tell_post_taken(semaphore);
        break;
      case kWoken:
      case kWakes:
        pthread_cond_broadcast(static_cast<pthread_cond_t*>(debt.object));
        break;
      case kSendsEvent:
        if (write(static_cast<int>(reinterpret_cast<intptr_t>(debt.object)), &debt.value, sizeof debt.value) < 0)
          hypercall(SRS_HC_NOT_WHOLE, "an event that the scope owed could not be written");
        break;
      default:  // kPutOff: it was never made
        break;
    }
  }
}

namespace {

int real_take(sem_t* s, Until until) {
  RealSemaphores const& real = real_semaphores();
  if (until.at == nullptr) return real.wait(s);
  return until.clock == CLOCK_REALTIME ? real.timedwait(s, until.at) : real.clockwait(s, until.clock, until.at);
}
int take(sem_t* s, Until until) {
  if (restricted()) return 0;
  Thread* const t = thread_if_known();
  return t == nullptr || !in_scope(t) ? real_take(s, until) : semaphore_take(t, s, false, until);
}

}  // namespace
}  // namespace srs::lib

using namespace srs::lib;

extern "C" {

SRS_API int sem_wait(sem_t* s) {
  return take(s, {nullptr, CLOCK_MONOTONIC});
}
SRS_API int sem_trywait(sem_t* s) {
  if (restricted()) return 0;
  Thread* const t = thread_if_known();
  return t == nullptr || !in_scope(t) ? real_semaphores().trywait(s) : semaphore_take(t, s, true, {nullptr, 0});
}
SRS_API int sem_timedwait(sem_t* s, timespec const* at) {
  return take(s, {at, CLOCK_REALTIME});
}
SRS_API int sem_clockwait(sem_t* s, clockid_t clock, timespec const* at) {
  return take(s, {at, clock});
}
SRS_API int sem_post(sem_t* s) {
  if (restricted()) return 0;
  Thread* const t = thread_if_known();
  // In critical code: by a signal handler that has interrupted it.
  bool const plain = t == nullptr || !in_scope(t) || t->slot->critical != 0;
  return plain ? real_semaphores().post(s) : semaphore_post(t, s);
}

void srs_owe_wakeup(pthread_cond_t* cond) {
  Thread* const t = restricted() ? nullptr : thread();
  if (t == nullptr || !in_scope(t)) return;
  Critical critical(t);
  owe(t, kWakes, cond);
}
void srs_owe_event(int event_fd, uint64_t value) {
  Thread* const t = restricted() ? nullptr : thread();
  if (t == nullptr || !in_scope(t)) return;
  Critical critical(t);
  owe(t, kSendsEvent, reinterpret_cast<void*>(static_cast<intptr_t>(event_fd)), value);
}
}
