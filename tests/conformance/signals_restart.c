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

static volatile int handled;
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

static void* disturb(void* then_write) {
  usleep(150000);
  pthread_kill(main_thread, SIGUSR1);
  usleep(50000);
  if (then_write && write(pipe_fds[1], "x", 1) != 1) perror("write");
  return NULL;
}

static void result(char const* name, long r) {
  int const e = errno;
  printf("%s: %ld %s, handled %d\n", name, r, r < 0 ? strerror(e) : "-", handled);
  handled = 0;
}

static pthread_t start(int then_write) {
  pthread_t thread;
  pthread_create(&thread, NULL, disturb, then_write ? (void*)1 : NULL);
  return thread;
}

int main(void) {
  main_thread = pthread_self();
  char byte;
  if (pipe(pipe_fds) != 0) return 1;
  for (int restart = 0; restart < 2; restart++) {
    install(restart ? SA_RESTART : 0);
    printf("%s\n", restart ? "with SA_RESTART" : "without");

    pthread_t t = start(1);
    long r = read(pipe_fds[0], &byte, 1);
    result("read", r);
    pthread_join(t, NULL);
    if (r < 0 && read(pipe_fds[0], &byte, 1) != 1) perror("read");

    t = start(0);
    struct pollfd p = {.fd = pipe_fds[0], .events = POLLIN};
    result("poll", poll(&p, 1, 2000));
    pthread_join(t, NULL);

    t = start(0);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pipe_fds[0], &set);
    struct timeval limit = {2, 0};
    result("select", select(pipe_fds[0] + 1, &set, NULL, NULL, &limit));
    pthread_join(t, NULL);

    t = start(0);
    struct timespec span = {1, 0}, rest = {0, 0};
    int const slept = nanosleep(&span, &rest);
    result("nanosleep", slept);
    printf("rest plausible: %d\n", rest.tv_sec == 0 && rest.tv_nsec > 500000000 && rest.tv_nsec < 990000000);
    pthread_join(t, NULL);

    t = start(0);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec++;
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    result("clock_nanosleep", errno ? -1 : 0);
    pthread_join(t, NULL);
  }

  // No handler: the call goes on.
  signal(SIGUSR1, SIG_IGN);
  pthread_t t = start(1);
  result("read, ignored", read(pipe_fds[0], &byte, 1));
  pthread_join(t, NULL);
  t = start(0);
  struct timespec a, b, span = {0, 300000000};
  clock_gettime(CLOCK_MONOTONIC, &a);
  result("nanosleep, ignored", nanosleep(&span, NULL));
  clock_gettime(CLOCK_MONOTONIC, &b);
  printf("slept it all: %d\n", (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= 299);
  pthread_join(t, NULL);
  return 0;
}
