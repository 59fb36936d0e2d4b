// A signalfd is never writable, whatever else it is: not for poll, select or epoll, alone or with what can be read.
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void ask(int fd) {
  short const asked[] = {POLLOUT, POLLOUT | POLLWRNORM | POLLWRBAND, POLLIN | POLLOUT, POLLIN};
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
    struct pollfd p = {fd, asked[i], 0};
    int const n = poll(&p, 1, 0);
    printf("poll %x: %d %x %x\n", (unsigned)asked[i], n, (unsigned)p.events, (unsigned)p.revents);
  }

  fd_set in, out;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_SET(fd, &in);
  FD_SET(fd, &out);
  struct timeval none = {0, 0};
  int const n = select(fd + 1, &in, &out, NULL, &none);
  printf("select: %d, in %d, out %d\n", n, FD_ISSET(fd, &in) != 0, FD_ISSET(fd, &out) != 0);

  unsigned const wanted[] = {EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLOUT | EPOLLET};
  int const set = epoll_create1(0);
  struct epoll_event event = {.events = 0, .data.u32 = 7}, got = {0};
  epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    event.events = wanted[i];
    epoll_ctl(set, EPOLL_CTL_MOD, fd, &event);
    got.events = 0;
    int const found = epoll_wait(set, &got, 1, 0);
    printf("epoll %x: %d %x\n", wanted[i], found, got.events);
  }
  close(set);
}

int main(void) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  sigprocmask(SIG_BLOCK, &signals, NULL);
  int const fd = signalfd(-1, &signals, 0);
  puts("nothing pending");
  ask(fd);
  raise(SIGUSR1);
  puts("a signal pending");
  ask(fd);
  return 0;
}
