// A signal sent to one thread: that thread's poll, select and epoll find its signalfd readable, another's do not.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <unistd.h>

static sigset_t set;
static pthread_t main_thread;

static int ready(int fd, int ms) {
  struct pollfd p = {fd, POLLIN, 0};
  int const n = poll(&p, 1, ms);
  return n == 1 ? p.revents : n;
}
static char const* take(int fd) {
  static char text[64];
  struct signalfd_siginfo info;
  ssize_t const n = read(fd, &info, sizeof info);
  if (n != sizeof info) return strerrorname_np(errno);
  snprintf(text, sizeof text, "%s by %s", sigabbrev_np((int)info.ssi_signo),
           info.ssi_code == SI_TKILL ? "tkill" : "kill");
  return text;
}
static void show(int fd, int ms) {
  unsigned const events = (unsigned)ready(fd, ms);
  printf("%x, %s", events, take(fd));
}

static void* later(void* arg) {
  (void)arg;
  usleep(20000);
  pthread_kill(main_thread, SIGUSR1);
  return NULL;
}
static pthread_t sent_later(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, later, NULL);
  return thread;
}

static void* neighbour(void* arg) {
  int const fd = *(int*)arg;
  printf("another thread: ");
  show(fd, 0);
  pthread_kill(pthread_self(), SIGUSR2);
  printf("; its own: ");
  show(fd, 1000);
  printf("\n");
  return NULL;
}

int main(void) {
  main_thread = pthread_self();
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  int fd = signalfd(-1, &set, SFD_NONBLOCK);
  printf("nothing: ");
  show(fd, 0);
  printf("\n");
  raise(SIGUSR1);
  printf("raised: ");
  show(fd, 1000);
  printf(", then %x\n", (unsigned)ready(fd, 0));
  kill(getpid(), SIGUSR2);
  raise(SIGUSR1);
  printf("both kinds: %x", (unsigned)ready(fd, 1000));
  printf(", %s", take(fd));
  printf(", %x", (unsigned)ready(fd, 0));
  printf(", %s", take(fd));
  printf(", %x\n", (unsigned)ready(fd, 0));

  pthread_t thread = sent_later();
  printf("poll waited: %x", (unsigned)ready(fd, 5000));
  pthread_join(thread, NULL);
  printf(", %s\n", take(fd));
  thread = sent_later();
  fd_set fds;
  FD_ZERO(&fds);
  FD_SET(fd, &fds);
  struct timeval seconds = {5, 0};
  int const n = select(fd + 1, &fds, NULL, NULL, &seconds);
  printf("select waited: %d", n);
  printf(", %s\n", take(fd));
  pthread_join(thread, NULL);

  int const e = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7}, got = {0};
  epoll_ctl(e, EPOLL_CTL_ADD, fd, &event);
  printf("epoll: %d", epoll_wait(e, &got, 1, 0));
  thread = sent_later();
  int const found = epoll_wait(e, &got, 1, 5000);
  printf(", waited %d %x %u", found, got.events, got.data.u32);
  printf(", %s", take(fd));
  printf(", then %d\n", epoll_wait(e, &got, 1, 0));
  pthread_join(thread, NULL);

  raise(SIGUSR1);
  pthread_create(&thread, NULL, neighbour, &fd);
  pthread_join(thread, NULL);
  printf("ours still: ");
  show(fd, 1000);
  printf("\n");

  // Pending before the descriptor knows of it; gone when the signal is taken by other means.
  raise(SIGUSR2);
  sigdelset(&set, SIGUSR2);
  signalfd(fd, &set, 0);
  printf("not in the mask: %x", (unsigned)ready(fd, 0));
  sigaddset(&set, SIGUSR2);
  signalfd(fd, &set, 0);
  printf(", in the mask: %x", (unsigned)ready(fd, 0));
  siginfo_t info;
  int const taken = sigwaitinfo(&set, &info);
  printf(", taken %d, then %x\n", taken == SIGUSR2, (unsigned)ready(fd, 0));

  fd = signalfd(-1, &set, 0);
  thread = sent_later();
  printf("read waited: %s\n", take(fd));
  pthread_join(thread, NULL);
  return 0;
}
