// Many signals between many threads while they lock, allocate, sleep and read: none lost, nothing torn.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 6, SIGNALS = 60 };

static _Atomic int received[THREADS], bad_sums;
static __thread int me = -1;
static pthread_t threads[THREADS];
static _Atomic int started, finished;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int shared_a, shared_b;

static void handler(int sig, siginfo_t* info, void* context) {
  (void)sig;
  (void)context;
  int const saved = errno;
  if (info->si_value.sival_int >= 0 && me >= 0) atomic_fetch_add(&received[me], 1);
  errno = saved;
}

static double churn(int rounds) {
  double sum = 0;
  for (int i = 0; i < rounds; i++) {
    char* p = malloc(64 + (size_t)i % 512);
    memset(p, i, 64);
    sum += p[63] + i * 0.5;
    free(p);
    pthread_mutex_lock(&mutex);
    shared_a++;
    shared_b--;
    pthread_mutex_unlock(&mutex);
  }
  return sum;
}

static void* worker(void* arg) {
  me = (int)(long)arg;
  double const expected = churn(2000);
  atomic_fetch_add(&started, 1);
  while (atomic_load(&started) < THREADS) usleep(1000);
  for (int i = 0; i < SIGNALS; i++) {
    union sigval value = {.sival_int = i};
    while (pthread_sigqueue(threads[(me + 1 + i) % THREADS], SIGRTMIN + 1, value) == EAGAIN) usleep(1000);
    if (i % 10 == 0 && churn(2000) != expected) atomic_fetch_add(&bad_sums, 1);
    if (i % 16 == 0) usleep(500);
  }
  atomic_fetch_add(&finished, 1);
  while (atomic_load(&finished) < THREADS) usleep(1000);
  return NULL;
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGRTMIN + 1, &action, NULL);
  for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, worker, (void*)i);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  int total = 0;
  for (int i = 0; i < THREADS; i++) total += received[i];
  printf("received %d of %d, sums wrong %d, lock held %d\n", total, THREADS * SIGNALS, bad_sums, shared_a == -shared_b);
  return 0;
}
