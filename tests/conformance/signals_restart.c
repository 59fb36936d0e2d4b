// SA_RESTART against EINTR, on calls that restart, on calls that never do, and on sleeps.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static volatile int sent, handled, ended;
static int ignored;
static pthread_t main_thread;
static int pipe_fds[2];

static void handler(int sig) {
  (void)sig;
  handled++;
}

static void install(int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(SIGUSR1, &action, NULL);
}

// A thread that gets its processor late may not be in its call yet: signals come until the call has ended, or once and
// then a byte, each when the one before was handled.
static void* disturb(void* then_write) {
  do {
    usleep(150000);
    sent++;
    pthread_kill(main_thread, SIGUSR1);
    while (!ignored && handled != sent) usleep(1000);
    usleep(50000);
  } while (!then_write && !ignored && !ended);
  if (then_write && write(pipe_fds[1], "x", 1) != 1) perror("write");
  return NULL;
}

static pthread_t start(int then_write) {
  sent = handled = ended = 0;
  pthread_t thread;
  pthread_create(&thread, NULL, disturb, then_write ? (void*)1 : NULL);
  return thread;
}

static void result(pthread_t thread, char const* name, long r) {
  int const e = errno;
  ended = 1;
  pthread_join(thread, NULL);
  printf("%s: %ld %s, handled %s\n", name, r, r < 0 ? strerror(e) : "-",
         handled == 0      ? "none"
         : handled == sent ? "all"
                           : "some");
}

int main(void) {
  main_thread = pthread_self();
  char byte;
  if (pipe(pipe_fds) != 0) return 1;
  for (int restart = 0; restart < 2; restart++) {
    install(restart ? SA_RESTART : 0);
    printf("%s\n", restart ? "with SA_RESTART" : "without");

    pthread_t t = start(restart);
    result(t, "read", read(pipe_fds[0], &byte, 1));

    t = start(0);
    struct pollfd p = {.fd = pipe_fds[0], .events = POLLIN};
    result(t, "poll", poll(&p, 1, 10000));

    t = start(0);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipe_fds[0], &set);
    struct timeval limit = {10, 0};
    result(t, "select", select(pipe_fds[0] + 1, &set, NULL, NULL, &limit));

    t = start(0);
    struct timespec span = {10, 0}, rest = {0, 0};
    result(t, "nanosleep", nanosleep(&span, &rest));
    long const left = rest.tv_sec * 1000 + rest.tv_nsec / 1000000;
    printf("rest plausible: %d\n", left > 5000 && left < 9990);

    t = start(0);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 10;
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    result(t, "clock_nanosleep", errno ? -1 : 0);
  }

  // No handler: the call goes on.
  signal(SIGUSR1, SIG_IGN);
  ignored = 1;
  pthread_t t = start(1);
  result(t, "read, ignored", read(pipe_fds[0], &byte, 1));
  t = start(0);
  struct timespec a, b, span = {0, 300000000};
  clock_gettime(CLOCK_MONOTONIC, &a);
  long const slept = nanosleep(&span, NULL);
  clock_gettime(CLOCK_MONOTONIC, &b);
  result(t, "nanosleep, ignored", slept);
  printf("slept it all: %d\n", (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= 299);
  return 0;
}
