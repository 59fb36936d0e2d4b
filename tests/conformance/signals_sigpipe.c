// Writing to a closed pipe or socket: SIGPIPE to the thread that wrote, EPIPE with it or instead of it.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile int count;
static void handler(int sig) {
  count += sig;
}

static void show(char const* what, ssize_t result) {
  int const broken = result == -1 && errno == EPIPE;
  printf("%s: EPIPE %d, signals %d\n", what, broken, count);
}

int main(void) {
  int fds[2], pair[2];
  if (pipe(fds) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 1;
  close(fds[0]);
  close(pair[0]);
  signal(SIGPIPE, handler);
  show("pipe", write(fds[1], "x", 1));
  show("socket", send(pair[1], "x", 1, 0));
  show("no signal", send(pair[1], "x", 1, MSG_NOSIGNAL));
  signal(SIGPIPE, SIG_IGN);
  show("ignored", write(fds[1], "x", 1));
  signal(SIGPIPE, SIG_DFL);
  fflush(stdout);
  if (write(fds[1], "x", 1) < 0) printf("not reached\n");
  return 0;
}
