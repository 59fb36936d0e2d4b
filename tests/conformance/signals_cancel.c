// pthread_cancel, which the C library does by a signal of its own: blocked threads, clean-up handlers, disabled state.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <unistd.h>

static int fds[2];
static sem_t ready;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void clean(void* name) {
  printf("cleaned up: %s\n", (char*)name);
}

static void unlock(void* m) {
  pthread_mutex_unlock(m);
  printf("unlocked\n");
}

static void* in_read(void* name) {
  char byte;
  pthread_cleanup_push(clean, name);
  sem_post(&ready);
  if (read(fds[0], &byte, 1) < 0) printf("read failed\n");
  pthread_cleanup_pop(0);
  return NULL;
}

static void* in_pause(void* name) {
  pthread_cleanup_push(clean, name);
  sem_post(&ready);
  pause();
  pthread_cleanup_pop(0);
  return NULL;
}

static void* in_poll(void* name) {
  struct pollfd p = {.fd = fds[0], .events = POLLIN};
  pthread_cleanup_push(clean, name);
  sem_post(&ready);
  poll(&p, 1, -1);
  pthread_cleanup_pop(0);
  return NULL;
}

static void* in_cond(void* name) {
  (void)name;
  pthread_mutex_lock(&mutex);
  pthread_cleanup_push(unlock, &mutex);
  sem_post(&ready);
  for (;;) pthread_cond_wait(&never, &mutex);
  pthread_cleanup_pop(0);
  return NULL;
}

static void* in_loop(void* name) {
  int volatile n = 0;
  pthread_cleanup_push(clean, name);
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
  sem_post(&ready);
  for (;;) n++;
  pthread_cleanup_pop(0);
  return NULL;
}

static void* disabled(void* name) {
  (void)name;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  sem_post(&ready);
  usleep(100000);
  return (void*)7;
}

int main(void) {
  if (pipe(fds) != 0) return 1;
  sem_init(&ready, 0, 0);
  struct {
    char const* name;
    void* (*body)(void*);
  } const cases[] = {{"read", in_read}, {"pause", in_pause}, {"poll", in_poll},
                     {"cond", in_cond}, {"loop", in_loop},   {"disabled", disabled}};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    pthread_t thread;
    void* result;
    pthread_create(&thread, NULL, cases[i].body, (void*)cases[i].name);
    sem_wait(&ready);
    usleep(20000);
    int const r = pthread_cancel(thread);
    pthread_join(thread, &result);
    printf("%s: %d, %s\n", cases[i].name, r, result == PTHREAD_CANCELED ? "cancelled" : "returned");
    fflush(stdout);
  }
  return 0;
}
