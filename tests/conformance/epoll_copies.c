// One open file under several numbers in an epoll set: each number is a member of its own, and the file stays in the
// set until its last number is closed.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int set;

static char const* ctl(int how, int fd, unsigned events, unsigned data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  return epoll_ctl(set, how, fd, &event) == 0 ? "ok" : strerrorname_np(errno);
}

// The events of each member, by its data.
static void show(char const* when) {
  struct epoll_event got[8];
  int const n = epoll_wait(set, got, 8, 0);
  printf("%s: %d ready", when, n);
  for (unsigned long data = 0; data < 100; data++)
    for (int i = 0; i < n; i++)
      if (got[i].data.u64 == data) printf(", %lu %x", data, got[i].events);
  printf("\n");
}

int main(void) {
  set = epoll_create1(0);
  int const a = eventfd(1, 0), b = dup(a);
  printf("add %s", ctl(EPOLL_CTL_ADD, a, EPOLLIN, 1));
  printf(", copy unknown %s", ctl(EPOLL_CTL_MOD, b, EPOLLIN, 2));
  printf(" %s", ctl(EPOLL_CTL_DEL, b, 0, 0));
  printf(", copy added %s", ctl(EPOLL_CTL_ADD, b, EPOLLIN, 2));
  printf(", twice %s %s\n", ctl(EPOLL_CTL_ADD, a, EPOLLIN, 3), ctl(EPOLL_CTL_ADD, b, EPOLLIN, 3));
  show("both");
  printf("modified %s\n", ctl(EPOLL_CTL_MOD, b, EPOLLOUT, 4));
  show("one of them");
  printf("deleted %s\n", ctl(EPOLL_CTL_DEL, a, 0, 0));
  show("the copy");
  printf("again %s\n", ctl(EPOLL_CTL_ADD, a, EPOLLIN | EPOLLET, 5));
  show("edge");
  show("edge, later");

  close(a);
  show("first closed");
  printf("by a closed number %s", ctl(EPOLL_CTL_DEL, a, 0, 0));
  int const other = eventfd(1, 0);
  printf("; its number is another file's %d: %s", other == a, ctl(EPOLL_CTL_MOD, other, EPOLLIN, 6));
  printf(" %s\n", ctl(EPOLL_CTL_ADD, other, EPOLLIN, 7));
  show("three members");
  dup2(b, other);
  show("without the other file");
  printf("the number is the file's again %s\n", ctl(EPOLL_CTL_MOD, a, EPOLLIN, 8));
  show("changed");
  close(b);
  show("copy closed");
  close(a);
  show("all closed");

  // Two sets, and many numbers of one pipe.
  int fds[2];
  if (pipe(fds) != 0 || write(fds[1], "x", 1) != 1) return 1;
  int const first = set, second = epoll_create1(0);
  int copies[5];
  for (unsigned i = 0; i < 5; i++) {
    copies[i] = dup(fds[0]);
    set = i % 2 == 0 ? first : second;
    printf("%s ", ctl(EPOLL_CTL_ADD, copies[i], EPOLLIN, 10 + i));
  }
  printf("%s\n", ctl(EPOLL_CTL_ADD, copies[0], EPOLLIN, 20));
  set = first;
  show("even");
  set = second;
  show("odd");
  for (int i = 0; i < 5; i++) close(copies[i]);
  show("odd, closed");
  close(fds[0]);
  show("the pipe closed");
  set = first;
  show("even, the pipe closed");
  return 0;
}
