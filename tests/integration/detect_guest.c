// The guest of detect_guest_test.cpp: a server of lines. "PING" is answered with "PONG"; "DO WHAT" is answered with
// "OK" and brings it into the trouble that WHAT names. Its first argument is the port, the second how many connections
// it serves at once, one thread for each.
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER, log_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t slots = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t slot_free = PTHREAD_COND_INITIALIZER;
static int slots_left;
static atomic_int spin, slow_ms, both_held;

// One thread takes table then log, another log then table, and each has its first before it wants its second.
static void* cross(void* turn) {
  pthread_mutex_t* const first = turn == NULL ? &table : &log_lock;
  pthread_mutex_t* const second = turn == NULL ? &log_lock : &table;
  pthread_mutex_lock(first);
  atomic_fetch_add(&both_held, 1);
  while (atomic_load(&both_held) < 2) usleep(1000);
  pthread_mutex_lock(second);
  return NULL;
}

static void deadlock(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, cross, NULL);
  pthread_create(&thread, NULL, cross, &both_held);
  while (atomic_load(&both_held) < 2) usleep(1000);
}

static void exhaust_memory(void) {
  for (size_t size = (size_t)1 << 30; size >= 4096; size /= 2) {
    while (mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) continue;
  }
}

// Each one that a closed connection gives back is taken again.
static void* take_descriptors(void* nothing) {
  for (;;) {
    while (dup(0) >= 0) continue;
    usleep(1000);
  }
  return nothing;
}

static void exhaust_descriptors(void) {
  struct rlimit few = {64, 64};
  setrlimit(RLIMIT_NOFILE, &few);
  pthread_t thread;
  pthread_create(&thread, NULL, take_descriptors, NULL);
}

// What the answer is, or NULL: none.
static char const* obey(char const* line) {
  if (strcmp(line, "PING") == 0) {
    int const ms = atomic_load(&slow_ms);
    if (ms != 0) usleep((useconds_t)ms * 1000);
    pthread_mutex_lock(&table);
    pthread_mutex_unlock(&table);
    void* const work = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (work == MAP_FAILED) return NULL;  // a server that drops what it cannot serve
    munmap(work, 1 << 20);
    return "PONG\n";
  }
  if (strcmp(line, "DO deadlock") == 0) deadlock();
  if (strcmp(line, "DO spin") == 0) atomic_store(&spin, 1);
  if (strcmp(line, "DO slow") == 0) atomic_store(&slow_ms, 500);
  if (strcmp(line, "DO memory") == 0) exhaust_memory();
  if (strcmp(line, "DO descriptors") == 0) exhaust_descriptors();
  if (strcmp(line, "DO crash") == 0) *(int volatile*)8 = 1;
  if (strcmp(line, "DO kill") == 0) kill(getpid(), SIGKILL);
  if (strcmp(line, "DO exit") == 0) exit(3);
  return "OK\n";
}

static void* serve(void* arg) {
  int const fd = (int)(long)arg;
  char line[64];
  size_t n = 0;
  while (n < sizeof line && read(fd, line + n, 1) == 1) {
    if (line[n] != '\n') {
      n++;
      continue;
    }
    line[n] = 0;
    n = 0;
    char const* const answer = obey(line);
    if (answer != NULL && write(fd, answer, strlen(answer)) < 0) break;
  }
  close(fd);
  pthread_mutex_lock(&slots);
  slots_left++;
  pthread_cond_signal(&slot_free);
  pthread_mutex_unlock(&slots);
  return NULL;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  slots_left = atoi(argv[2]);
  signal(SIGPIPE, SIG_IGN);
  int const listener = socket(AF_INET, SOCK_STREAM, 0);
  int const one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(argv[1]))};
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, (struct sockaddr*)&at, sizeof at) != 0 || listen(listener, 4) != 0) return 4;
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  for (;;) {
    pthread_mutex_lock(&slots);
    while (slots_left == 0) pthread_cond_wait(&slot_free, &slots);
    pthread_mutex_unlock(&slots);
    int const fd = accept(listener, NULL, NULL);
    while (atomic_load(&spin) != 0) continue;
    pthread_t thread;
    if (fd < 0) {
      usleep(10000);
      continue;
    }
    pthread_mutex_lock(&slots);
    slots_left--;
    pthread_mutex_unlock(&slots);
    // Without the memory for a stack the client waits.
    while (pthread_create(&thread, &detached, serve, (void*)(long)fd) != 0) usleep(10000);
  }
}
