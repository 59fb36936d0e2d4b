// A stack overflow whose SIGSEGV handler runs on the alternate stack and leaves it by siglongjmp.
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char* alt;
static size_t alt_size;
static sigjmp_buf back;
static volatile int inside, flags_inside, refused;

static void handler(int sig) {
  char here;
  stack_t now, other = {.ss_sp = alt, .ss_size = alt_size};
  (void)sig;
  inside = &here >= alt && &here < alt + alt_size;
  sigaltstack(NULL, &now);
  flags_inside = now.ss_flags;
  refused = sigaltstack(&other, NULL) == -1 && errno == EPERM;
  siglongjmp(back, 1);
}

static __attribute__((noinline)) int deep(int n) {
  char volatile pad[512];
  pad[0] = (char)n;
  return n == -1 ? 0 : deep(n + 1) + pad[0];
}

static void* overflow(void* name) {
  stack_t stack = {.ss_sp = alt, .ss_size = alt_size}, before;
  memset(&before, 0, sizeof before);
  sigaltstack(NULL, &before);
  printf("%s: new thread has no stack: %d\n", (char*)name, before.ss_flags == SS_DISABLE);
  if (sigaltstack(&stack, NULL) != 0) perror("sigaltstack");
  for (int i = 0; i < 2; i++) {
    inside = 0;
    if (sigsetjmp(back, 1) == 0) {
      deep(0);
      printf("not reached\n");
    } else {
      stack_t now;
      sigaltstack(NULL, &now);
      printf("%s: on the stack %d, flags inside %d, change refused %d, flags after %d\n", (char*)name, inside,
             flags_inside, refused, now.ss_flags);
    }
  }
  stack.ss_flags = SS_DISABLE;
  sigaltstack(&stack, NULL);
  return NULL;
}

static int fails(long result, int error) {
  return result == -1 && errno == error;
}

int main(void) {
  alt_size = 64 * 1024;
  alt = malloc(alt_size);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGSEGV, &action, NULL);
  overflow("main");
  pthread_t thread;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 256 * 1024);
  pthread_create(&thread, &attr, overflow, "thread");
  pthread_join(thread, NULL);
  stack_t small = {.ss_sp = alt, .ss_size = 100}, bad = {.ss_sp = alt, .ss_size = alt_size, .ss_flags = 77};
  printf("too small: %d\n", fails(sigaltstack(&small, NULL), ENOMEM));
  printf("bad flags: %d\n", fails(sigaltstack(&bad, NULL), EINVAL));
  return 0;
}
