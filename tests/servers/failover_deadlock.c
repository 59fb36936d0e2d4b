// Two threads that take two locks in opposite order, after a while.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER, other = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;

static void* take(void* second) {
  pthread_mutex_t* first = second == &one ? &other : &one;
  pthread_mutex_lock(first);
  pthread_barrier_wait(&both);
  pthread_mutex_lock(second);
  return NULL;
}

int main(void) {
  pthread_t threads[2];
  sleep(1);
  pthread_barrier_init(&both, NULL, 2);
  pthread_create(&threads[0], NULL, take, &one);
  pthread_create(&threads[1], NULL, take, &other);
  pthread_join(threads[0], NULL);
  puts("nobody reads this");
  return 0;
}
