// 200 threads at once, thread-local destructors, cancellation, the death of a robust mutex's owner, condition
// variables, a storm of detached threads: one line each.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { kMany = 200, kItems = 2000, kDetached = 300 };

static pthread_barrier_t barrier;
static atomic_int count;

static void* meet(void* arg) {
  pthread_barrier_wait(&barrier);
  atomic_fetch_add(&count, (int)(intptr_t)arg);
  return arg;
}

static void many(void) {
  pthread_t threads[kMany];
  int failed = 0, wrong = 0;
  pthread_barrier_init(&barrier, NULL, kMany);
  for (intptr_t i = 0; i < kMany; i++) failed += pthread_create(&threads[i], NULL, meet, (void*)i) != 0;
  for (intptr_t i = 0; i < kMany; i++) {
    void* result = NULL;
    failed += pthread_join(threads[i], &result) != 0;
    wrong += result != (void*)i;
  }
  printf("%d threads at once: sum %d, %d failed, %d wrong\n", kMany, atomic_load(&count), failed, wrong);
}

static pthread_key_t key;
static atomic_int destroyed;
static void destroy(void* value) {
  atomic_fetch_add(&destroyed, (int)(intptr_t)value);
}
static void* with_local(void* arg) {
  pthread_setspecific(key, arg);
  return NULL;
}

static void locals(void) {
  pthread_key_create(&key, destroy);
  for (intptr_t i = 1; i <= 50; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, with_local, (void*)i);
    pthread_join(thread, NULL);
  }
  printf("thread-local destructors: %d\n", atomic_load(&destroyed));
}

static atomic_int cleaned, waiting;
static void cleanup(void* arg) {
  (void)arg;
  atomic_fetch_add(&cleaned, 1);
}
static void* wait_to_be_cancelled(void* arg) {
  pthread_cleanup_push(cleanup, NULL);
  atomic_store(&waiting, 1);
  if (arg != NULL) {
    char byte;
    while (read(*(int*)arg, &byte, 1) != 0) {
    }
  }
  for (;;) pause();
  pthread_cleanup_pop(0);
  return NULL;
}

static void cancel(void) {
  int fds[2], cancelled = 0;
  if (pipe(fds) != 0) return;
  for (int i = 0; i < 20; i++) {
    pthread_t thread;
    void* result = NULL;
    atomic_store(&waiting, 0);
    pthread_create(&thread, NULL, wait_to_be_cancelled, i % 2 ? &fds[0] : NULL);
    while (!atomic_load(&waiting)) usleep(100);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    cancelled += result == PTHREAD_CANCELED;
  }
  printf("cancelled %d, cleaned up %d\n", cancelled, atomic_load(&cleaned));
}

static pthread_mutex_t robust;
static void* die_with_it(void* arg) {
  pthread_mutex_lock(&robust);
  return arg;
}

static void owner_death(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attributes);
  int dead = 0, consistent = 0;
  for (int i = 0; i < 20; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, die_with_it, NULL);
    pthread_join(thread, NULL);
    dead += pthread_mutex_lock(&robust) == EOWNERDEAD;
    consistent += pthread_mutex_consistent(&robust) == 0;
    pthread_mutex_unlock(&robust);
  }
  printf("owner dead %d, made consistent %d, then %d\n", dead, consistent, pthread_mutex_lock(&robust));
}

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static int queue[8], queued, taken_count;
static long taken_sum;

static void* consume(void* arg) {
  for (;;) {
    pthread_mutex_lock(&queue_lock);
    while (queued == 0) pthread_cond_wait(&not_empty, &queue_lock);
    int const item = queue[--queued];
    if (item != 0) {
      taken_sum += item;
      taken_count++;
    }
    pthread_cond_signal(&not_full);
    pthread_mutex_unlock(&queue_lock);
    if (item == 0) return arg;
  }
}

static void put(int item) {
  pthread_mutex_lock(&queue_lock);
  while (queued == 8) pthread_cond_wait(&not_full, &queue_lock);
  queue[queued++] = item;
  pthread_cond_signal(&not_empty);
  pthread_mutex_unlock(&queue_lock);
}

static void conditions(void) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, consume, NULL);
  for (int i = 1; i <= kItems; i++) put(i);
  for (;;) {
    pthread_mutex_lock(&queue_lock);
    int const all = taken_count;
    pthread_mutex_unlock(&queue_lock);
    if (all == kItems) break;
    usleep(500);
  }
  for (int i = 0; i < 4; i++) put(0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
  pthread_mutex_lock(&queue_lock);
  int const late = pthread_cond_timedwait(&not_empty, &queue_lock, &(struct timespec){1, 0});
  pthread_mutex_unlock(&queue_lock);
  printf("condition variables: %d items, sum %ld, timed out %d\n", taken_count, taken_sum, late == ETIMEDOUT);
}

static atomic_int ended;
static void* detached(void* arg) {
  atomic_fetch_add(&ended, 1);
  return arg;
}

static void storm(void) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  int failed = 0;
  for (int i = 0; i < kDetached; i++) {
    pthread_t thread;
    failed += pthread_create(&thread, &attributes, detached, NULL) != 0;
  }
  while (atomic_load(&ended) < kDetached - failed) usleep(1000);
  printf("detached: %d ended, %d failed\n", atomic_load(&ended), failed);
}

int main(void) {
  many();
  locals();
  cancel();
  owner_death();
  conditions();
  storm();
  return 0;
}
