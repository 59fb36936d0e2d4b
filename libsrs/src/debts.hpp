// What a scope owes others: semaphores that it took or posted, wake-ups that it used up, and what the program said
// itself (srs_owe_…). A commit settles what was put off; an abort pays.
#ifndef SRS_SRC_DEBTS_HPP
#define SRS_SRC_DEBTS_HPP

#include <pthread.h>
#include <semaphore.h>

#include "libsrs/src/locks.hpp"
#include "libsrs/src/thread.hpp"

namespace srs::lib {

struct RealSemaphores {
  int (*wait)(sem_t*);
  int (*trywait)(sem_t*);
  int (*timedwait)(sem_t*, timespec const*);
  int (*clockwait)(sem_t*, clockid_t, timespec const*);
  int (*post)(sem_t*);
};
RealSemaphores const& real_semaphores();

// sem_wait and its kin, by a thread in a scope: 0, or -1 with errno.
int semaphore_take(Thread* t, sem_t* semaphore, bool try_only, Until until);
int semaphore_post(Thread* t, sem_t* semaphore);
// A wake-up of this condition variable was used up.
void debts_woken(Thread* t, pthread_cond_t* cond);

[[nodiscard]] bool debts_put_off(Thread* t);
// Posts that are put off are made now: the thread is about to wait for somebody.
void debts_post_now(Thread* t);
void debts_commit(Thread* t, uint32_t depth);
void debts_abort(Thread* t, uint32_t depth, bool remember);

}  // namespace srs::lib

#endif
