// abort(): the handler runs, returns, and the process dies of SIGABRT all the same (status 134).
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void handler(int sig) {
  printf("handler: %d\n", sig);
  fflush(stdout);
}

int main(void) {
  signal(SIGABRT, handler);
  abort();
}
