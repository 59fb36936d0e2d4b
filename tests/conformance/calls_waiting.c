// poll, select, epoll (level, edge, one shot), eventfd, timerfd, signalfd, inotify: who becomes ready, when, once or
// again.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

static char const* call(long r) {
  return r >= 0 ? "ok" : strerrorname_np(errno);
}
static int fds[2];

static void put(void) {
  if (write(fds[1], "x", 1) != 1) printf("write failed\n");
}
static void get(void) {
  char c;
  if (read(fds[0], &c, 1) != 1) printf("read failed\n");
}

static void poll_and_select(void) {
  struct pollfd p[3] = {{fds[0], POLLIN, 0}, {fds[1], POLLOUT, 0}, {999, POLLIN, 0}};
  int n = poll(p, 3, 0);
  printf("poll: %d, %x %x %x", n, (unsigned)p[0].revents, (unsigned)p[1].revents, (unsigned)p[2].revents);
  put();
  n = poll(p, 1, 1000);
  printf("; after a write %d, %x", n, (unsigned)p[0].revents);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fds[0], &set);
  struct timeval second = {1, 0};
  n = select(fds[0] + 1, &set, NULL, NULL, &second);
  printf("; select %d %d", n, FD_ISSET(fds[0], &set) != 0);
  get();
  struct timespec soon = {0, 2000000};
  n = pselect(fds[0] + 1, &set, NULL, NULL, &soon, NULL);
  printf("; in time %d %d", n, FD_ISSET(fds[0], &set) != 0);
  n = ppoll(p, 1, &soon, NULL);
  printf("; ppoll %d\n", n);
}

static void epoll(void) {
  int const e = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1122334455667788}, got[4];
  printf("epoll: add %s", call(epoll_ctl(e, EPOLL_CTL_ADD, fds[0], &event)));
  printf(", twice %s", call(epoll_ctl(e, EPOLL_CTL_ADD, fds[0], &event)));
  printf(", bad %s", call(epoll_ctl(e, EPOLL_CTL_ADD, 999, &event)));
  printf(", itself %s", call(epoll_ctl(e, EPOLL_CTL_ADD, e, &event)));
  printf(", none %d\n", epoll_wait(e, got, 4, 0));
  put();
  for (int i = 0; i < 2; i++) {
    int const n = epoll_wait(e, got, 4, 1000);
    printf("level: %d %x %llx\n", n, got[0].events, (unsigned long long)got[0].data.u64);
  }
  event.events = EPOLLIN | EPOLLET;
  epoll_ctl(e, EPOLL_CTL_MOD, fds[0], &event);
  printf("edge: %d", epoll_wait(e, got, 4, 1000));
  printf(", %d", epoll_wait(e, got, 4, 0));
  put();
  printf(", after a write %d", epoll_wait(e, got, 4, 1000));
  printf(", %d\n", epoll_wait(e, got, 4, 0));
  event.events = EPOLLIN | EPOLLONESHOT;
  epoll_ctl(e, EPOLL_CTL_MOD, fds[0], &event);
  printf("one shot: %d", epoll_wait(e, got, 4, 1000));
  put();
  printf(", %d", epoll_wait(e, got, 4, 0));
  epoll_ctl(e, EPOLL_CTL_MOD, fds[0], &event);
  printf(", armed again %d\n", epoll_wait(e, got, 4, 1000));
  int const copy = dup(fds[0]);
  printf("del %s", call(epoll_ctl(e, EPOLL_CTL_DEL, fds[0], NULL)));
  printf(", gone %s", call(epoll_ctl(e, EPOLL_CTL_MOD, fds[0], &event)));
  event.events = EPOLLIN;
  epoll_ctl(e, EPOLL_CTL_ADD, copy, &event);
  printf(", a copy %d", epoll_pwait(e, got, 4, 1000, NULL));
  close(copy);
  printf(", closed: %s\n", call(epoll_ctl(e, EPOLL_CTL_MOD, copy, &event)));
  for (int i = 0; i < 3; i++) get();
  close(e);
}

static void* add_later(void* arg) {
  usleep(5000);
  uint64_t const two = 2;
  if (write(*(int*)arg, &two, 8) != 8) printf("write failed\n");
  return NULL;
}

static void event_and_timer(void) {
  int event = eventfd(3, EFD_NONBLOCK);
  uint64_t value = 0;
  ssize_t n = read(event, &value, 8);
  printf("eventfd: %zd %llu", n, (unsigned long long)value);
  printf(", empty %s, short %s", call(read(event, &value, 8)), call(write(event, &value, 4)));
  close(event);
  event = eventfd(0, EFD_SEMAPHORE);
  pthread_t thread;
  pthread_create(&thread, NULL, add_later, &event);
  n = read(event, &value, 8);
  printf(", waited for %zd %llu", n, (unsigned long long)value);
  n = read(event, &value, 8);
  printf(", semaphore %zd %llu\n", n, (unsigned long long)value);
  pthread_join(thread, NULL);
  int const timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  struct itimerspec spec = {{0, 0}, {0, 3000000}}, left;
  printf("timerfd: %s, not yet %s", call(timerfd_settime(timer, 0, &spec, NULL)), call(read(timer, &value, 8)));
  struct pollfd p = {timer, POLLIN, 0};
  int const ready = poll(&p, 1, 2000);
  n = read(timer, &value, 8);
  timerfd_gettime(timer, &left);
  printf(", ready %d, %zd %llu, over %d\n", ready, n, (unsigned long long)value, left.it_value.tv_nsec == 0);
}

static void signals_and_files(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, NULL);
  int const s = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  struct signalfd_siginfo info;
  memset(&info, 0, sizeof info);
  printf("signalfd: empty %s", call(read(s, &info, sizeof info)));
  kill(getpid(), SIGUSR1);
  struct pollfd p = {s, POLLIN, 0};
  int const ready = poll(&p, 1, 2000);
  ssize_t const n = read(s, &info, sizeof info);
  printf(", ready %d, %zd, signal %u from me %d\n", ready, n, info.ssi_signo, info.ssi_pid == (uint32_t)getpid());
  int const watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  printf("inotify: %s", call(inotify_add_watch(watch, ".", IN_CREATE | IN_DELETE)));
  close(open("seen", O_CREAT | O_WRONLY, 0600));
  unlink("seen");
  union {
    char bytes[1024];
    struct inotify_event align;
  } buffer;
  ssize_t const size = read(watch, &buffer, sizeof buffer);
  for (ssize_t at = 0; at < size;) {
    struct inotify_event event;
    memcpy(&event, buffer.bytes + at, sizeof event);
    printf(", %s %s", event.mask & IN_CREATE ? "created" : "deleted", buffer.bytes + at + sizeof event);
    at += (ssize_t)(sizeof event + event.len);
  }
  printf("\n");
}

int main(void) {
  if (pipe2(fds, O_CLOEXEC) != 0) return 1;
  poll_and_select();
  epoll();
  event_and_timer();
  signals_and_files();
  return 0;
}
