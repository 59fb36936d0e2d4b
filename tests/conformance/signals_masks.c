// Masks: inherited by threads, per thread, with SA_NODEFER and sa_mask; which thread takes a signal of the process.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int calls, depth, deepest, taker;
static volatile int ready, stop;

static int tid(void) {
  return (int)syscall(SYS_gettid);
}

static void recurse(int sig) {
  if (++depth > deepest) deepest = depth;
  if (++calls < 3) raise(sig);
  depth--;
}

static void take(int sig) {
  (void)sig;
  taker = tid();
}

static int blocked(int sig) {
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, NULL, &now);
  return sigismember(&now, sig);
}

static volatile int mask_inside;
static void look(int sig) {
  (void)sig;
  mask_inside = blocked(SIGUSR1) | blocked(SIGUSR2) << 1 | blocked(SIGTERM) << 2;
}

static void* inherits(void* arg) {
  (void)arg;
  printf("inherited: USR1 %d USR2 %d\n", blocked(SIGUSR1), blocked(SIGUSR2));
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &both, NULL);
  return NULL;
}

static void* takes(void* my_tid) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_UNBLOCK, &set, NULL);
  *(int*)my_tid = tid();
  ready = 1;
  while (!stop) usleep(1000);
  return NULL;
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = recurse;
  sigaction(SIGUSR1, &action, NULL);
  raise(SIGUSR1);
  printf("deferred: depth %d\n", deepest);
  deepest = calls = 0;
  action.sa_flags = SA_NODEFER;
  sigaction(SIGUSR1, &action, NULL);
  raise(SIGUSR1);
  printf("not deferred: depth %d\n", deepest);

  action.sa_handler = look;
  action.sa_flags = 0;
  sigaddset(&action.sa_mask, SIGTERM);
  sigaction(SIGUSR2, &action, NULL);
  raise(SIGUSR2);
  printf("inside %d, after %d %d %d\n", mask_inside, blocked(SIGUSR1), blocked(SIGUSR2), blocked(SIGTERM));

  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGKILL);
  sigaddset(&set, SIGSTOP);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  printf("unblockable: %d %d\n", blocked(SIGKILL), blocked(SIGSTOP));
  pthread_t thread;
  pthread_create(&thread, NULL, inherits, NULL);
  pthread_join(thread, NULL);
  printf("main: USR1 %d USR2 %d\n", blocked(SIGUSR1), blocked(SIGUSR2));

  action.sa_handler = take;
  sigaction(SIGUSR1, &action, NULL);
  int other = 0;
  pthread_create(&thread, NULL, takes, &other);
  while (!ready) usleep(1000);
  kill(getpid(), SIGUSR1);
  while (!taker) usleep(1000);
  printf("taken by the thread that does not block it: %d\n", taker == other);
  stop = 1;
  pthread_join(thread, NULL);

  // Blocked by everybody: waits until somebody unblocks.
  taker = 0;
  kill(getpid(), SIGUSR1);
  printf("held: %d\n", taker);
  pthread_sigmask(SIG_UNBLOCK, &set, &old);
  printf("taken at once: %d\n", taker == tid());
  return 0;
}
