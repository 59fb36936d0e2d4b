// A default action ends the process: status 128 + 15, with every thread, and nothing after it runs.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void* sleeps(void* arg) {
  (void)arg;
  for (;;) pause();
  return NULL;
}

int main(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, sleeps, NULL);
  signal(SIGCHLD, SIG_DFL);
  raise(SIGCHLD);
  raise(SIGURG);
  raise(SIGWINCH);
  printf("ignored by default: still here\n");
  fflush(stdout);
  raise(SIGTERM);
  printf("not reached\n");
  return 0;
}
