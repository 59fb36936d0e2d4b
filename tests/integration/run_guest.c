// The guest of run_command_test.cpp: one behaviour for each first argument. Built in every way a program may be linked.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kCycles = 10000, kFirst = 1000, kMaxThreads = 20000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int released;

static void* nothing(void* arg) {
  return arg;
}

static void* wait_for_release(void* arg) {
  pthread_mutex_lock(&lock);
  while (!released) pthread_cond_wait(&changed, &lock);
  pthread_mutex_unlock(&lock);
  return arg;
}

// Each thread is made by the one before; the last one says so.
static void* make_next(void* left) {
  pthread_t thread;
  if ((long)left == 0) {
    puts("ready");
  } else if (pthread_create(&thread, NULL, make_next, (void*)((long)left - 1)) != 0) {
    puts("no thread");
  } else {
    pthread_detach(thread);
  }
  return wait_for_release(NULL);
}

static int cycles(void) {
  for (int i = 1; i <= kCycles; i++) {
    pthread_t thread;
    void* result = NULL;
    if (pthread_create(&thread, NULL, nothing, &lock) != 0) return 1;
    if (pthread_join(thread, &result) != 0 || result != &lock) return 2;
    if (i != kFirst && i != kCycles) continue;
    printf("%d\n", i);
    if (getchar() == EOF) return 3;  // until the test has looked at the monitor
  }
  return 0;
}

static int too_many_threads(void) {
  static pthread_t threads[kMaxThreads];
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  int n = 0, error = 0;
  while (n < kMaxThreads && (error = pthread_create(&threads[n], &small, wait_for_release, NULL)) == 0) n++;
  printf("%s after %s\n", strerrorname_np(error), n >= 200 ? "at least 200" : "fewer than 200");
  pthread_mutex_lock(&lock);
  released = 1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
  for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
  pthread_t again;
  if (pthread_create(&again, NULL, nothing, NULL) != 0 || pthread_join(again, NULL) != 0) return 1;
  printf("again\n");
  return 0;
}

static int exhaust_memory(void) {
  int const flags = MAP_PRIVATE | MAP_ANONYMOUS, access = PROT_READ | PROT_WRITE;
  size_t const piece = 16 << 20;
  char* last = NULL;
  char* p;
  while ((p = mmap(NULL, piece, access, flags, -1, 0)) != MAP_FAILED) last = p;
  printf("%s\n", strerrorname_np(errno));
  if (last == NULL || munmap(last, piece) != 0) return 1;
  p = mmap(NULL, piece, access, flags, -1, 0);
  if (p == MAP_FAILED) return 2;
  memset(p, 1, piece);
  printf("goes on\n");
  return 0;
}

int main(int argc, char** argv) {
  char const* const mode = argc > 1 ? argv[1] : "";
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (strcmp(mode, "exit") == 0) return atoi(argv[2]);
  if (strcmp(mode, "signal") == 0) return raise(atoi(argv[2]));
  if (strcmp(mode, "cycles") == 0) return cycles();
  if (strcmp(mode, "chain") == 0) return make_next((void*)atol(argv[2])) != NULL;
  if (strcmp(mode, "threads") == 0) return too_many_threads();
  if (strcmp(mode, "memory") == 0) return exhaust_memory();
  if (strcmp(mode, "wait") == 0) {
    printf("ready\n");
    for (;;) pause();
  }
  if (strcmp(mode, "streams") == 0) {  // which of them are open, as the exit status
    int open_ones = 0;
    char byte;
    for (int fd = 0; fd < 3; fd++) open_ones |= (write(fd, "", 0) == 0 || read(fd, &byte, 0) == 0) << fd;
    return open_ones;
  }
  // Everything a program is given.
  char cwd[4096] = "", line[64] = "";
  for (int i = 0; i < argc; i++) printf("[%s]", i == 0 ? "0" : argv[i]);
  char const* const value = getenv("RUN_GUEST");
  printf(" env %s", value != NULL ? value : "none");
  printf(" cwd %s", getcwd(cwd, sizeof cwd) != NULL ? cwd : "none");
  printf(" stdin %s\n", fgets(line, sizeof line, stdin) != NULL ? line : "none");
  fprintf(stderr, "to stderr\n");
  return 0;
}
