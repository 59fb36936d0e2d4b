// The guest of exitless_guest_test.cpp: one behaviour for each first argument.
#include <asm/prctl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

enum { kRounds = 600, kPairs = 4 };

static int failed(char const* what) {
  printf("wrong: %s\n", what);
  return 1;
}

// Bytes through a socket pair and back, each checked.
static void* echo(void* arg) {
  int ends[2];
  (void)arg;
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return (void*)1;
  for (int i = 0; i < kRounds; i++) {
    int got = -1;
    if (write(ends[0], &i, sizeof i) != sizeof i) return (void*)2;
    if (read(ends[1], &got, sizeof got) != sizeof got || got != i) return (void*)3;
    if (getppid() < 0 || lseek(ends[0], 0, SEEK_CUR) != -1) return (void*)4;
  }
  close(ends[0]);
  close(ends[1]);
  return NULL;
}

static int calls(void) {
  return echo(NULL) == NULL ? 0 : failed("echo");
}

static int threads(void) {
  pthread_t ids[kPairs];
  for (int i = 0; i < kPairs; i++) pthread_create(&ids[i], NULL, echo, NULL);
  for (int i = 0; i < kPairs; i++) {
    void* result = NULL;
    pthread_join(ids[i], &result);
    if (result != NULL) return failed("echo in a thread");
  }
  return 0;
}

static volatile sig_atomic_t ticks;
static void on_tick(int signal) {
  (void)signal;
  ticks++;
}

// Signals strike at every place of the stubs and trampolines; no call may be lost or made twice.
static int signals(void) {
  struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
  struct itimerval often = {{0, 1000}, {0, 1000}};
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &often, NULL);
  void* result = NULL;
  for (int i = 0; i < 5 && result == NULL; i++) result = echo(NULL);
  if (result != NULL) return failed("echo under signals");
  return ticks > 0 ? 0 : failed("no signal came");
}

// EPIPE comes with its signal before the write returns.
static int sigpipe(void) {
  struct sigaction action = {.sa_handler = on_tick};
  sigaction(SIGPIPE, &action, NULL);
  for (int i = 0; i < 100; i++) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return failed("socketpair");
    for (int k = 0; k < 20; k++) getppid();
    close(ends[1]);
    ticks = 0;
    if (write(ends[0], "x", 1) != -1 || ticks != 1) return failed("SIGPIPE");
    close(ends[0]);
  }
  return 0;
}

// A program that uses its GS base itself.
static int own_gs(void) {
  uint64_t mine[4] = {0x1122334455667788, 0, 0, 0}, seen = 0, base = 1;
  if (syscall(SYS_arch_prctl, ARCH_GET_GS, &base) != 0 || base != 0) return failed("the first GS base is not 0");
  if (echo(NULL) != NULL) return failed("echo");
  if (syscall(SYS_arch_prctl, ARCH_SET_GS, mine) != 0) return failed("ARCH_SET_GS");
  for (int i = 0; i < 200; i++) {
    if (echo(NULL) != NULL) return failed("echo with a GS base");
    __asm__ volatile("mov %%gs:0, %0" : "=r"(seen));
    if (seen != mine[0]) return failed("%gs:0");
    if (i == 2) break;
  }
  if (syscall(SYS_arch_prctl, ARCH_GET_GS, &base) != 0 || base != (uint64_t)mine) return failed("ARCH_GET_GS");
  if (syscall(SYS_arch_prctl, ARCH_SET_GS, 0) != 0 || echo(NULL) != NULL) return failed("echo after 0");
  return 0;
}

// More than a socket holds, through a blocking one: every byte arrives, in order, in one write.
static void* drain(void* arg) {
  int const fd = *(int*)arg;
  static unsigned char got[1 << 16];
  uint64_t at = 0;
  for (;;) {
    ssize_t const n = read(fd, got, sizeof got);
    if (n <= 0) break;
    for (ssize_t i = 0; i < n; i++, at++) {
      if (got[i] != (unsigned char)(at * 31 >> 3)) return (void*)1;
    }
    if (at % 7 == 0) usleep(500);
  }
  return (void*)(uintptr_t)(at << 1);
}

static int large_writes(void) {
  enum { kSize = 3 << 20, kTimes = 6 };
  static unsigned char data[kSize * kTimes];
  for (uint64_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 31 >> 3);
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return failed("socketpair");
  pthread_t reader;
  pthread_create(&reader, NULL, drain, &ends[1]);
  for (int k = 0; k < 200; k++) getppid();
  for (int i = 0; i < kTimes; i++) {
    ssize_t const n =
        i % 2 ? send(ends[0], data + (size_t)i * kSize, kSize, 0) : write(ends[0], data + (size_t)i * kSize, kSize);
    if (n != kSize) return failed("a blocking write came back short");
  }
  close(ends[0]);
  void* result = NULL;
  pthread_join(reader, &result);
  return (uintptr_t)result == (uintptr_t)(sizeof data) << 1 ? 0 : failed("bytes lost or changed");
}

// Another thread scribbles over this thread's mailbox (1 MiB behind the stub that the GS base names).
static volatile int stop;
static void* vandal(void* arg) {
  volatile uint64_t* const words = arg;
  for (uint64_t n = 1; !stop; n++) {
    words[n % 9] = n * 0x9e3779b97f4a7c15;
    if (n % 50 == 0) usleep(20);
  }
  return NULL;
}

static int damage(void) {
  uint64_t gs = 0;
  __asm__ volatile("rdgsbase %0" : "=r"(gs));
  pthread_t id;
  pthread_create(&id, NULL, vandal, (void*)(gs + (1 << 20)));
  for (int i = 0; i < 20000; i++) {
    if (getppid() != 1) return failed("getppid");
  }
  stop = 1;
  pthread_join(id, NULL);
  return 0;
}

int main(int argc, char** argv) {
  struct {
    char const* name;
    int (*run)(void);
  } const all[] = {{"calls", calls},   {"threads", threads},    {"signals", signals}, {"sigpipe", sigpipe},
                   {"own_gs", own_gs}, {"large", large_writes}, {"damage", damage}};
  for (unsigned i = 0; i < sizeof all / sizeof *all && argc > 1; i++) {
    if (strcmp(all[i].name, argv[1]) != 0) continue;
    int const status = all[i].run();
    if (status == 0) puts("right");
    return status;
  }
  return 2;
}
