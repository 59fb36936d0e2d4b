// sigsuspend, ppoll with a mask, sigtimedwait, sigwaitinfo, pause, sigpending.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile int handled;
static pthread_t main_thread;

static void handler(int sig) {
  handled = sig;
}

static void* later(void* sig) {
  usleep(150000);
  pthread_kill(main_thread, (int)(long)sig);
  return NULL;
}

static pthread_t send_later(int sig) {
  pthread_t thread;
  pthread_create(&thread, NULL, later, (void*)(long)sig);
  return thread;
}

static int blocked(int sig) {
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, NULL, &now);
  return sigismember(&now, sig);
}

int main(void) {
  main_thread = pthread_self();
  sigset_t usr1, none, pending;
  sigemptyset(&none);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  signal(SIGUSR1, handler);
  sigprocmask(SIG_BLOCK, &usr1, NULL);

  raise(SIGUSR1);
  sigpending(&pending);
  printf("pending %d handled %d\n", sigismember(&pending, SIGUSR1), handled);
  int r = sigsuspend(&none);
  printf("sigsuspend, pending before: %d %d handled %d blocked again %d\n", r, errno == EINTR, handled,
         blocked(SIGUSR1));

  handled = 0;
  pthread_t t = send_later(SIGUSR1);
  r = sigsuspend(&none);
  printf("sigsuspend: %d %d handled %d blocked again %d\n", r, errno == EINTR, handled, blocked(SIGUSR1));
  pthread_join(t, NULL);

  handled = 0;
  raise(SIGUSR1);
  struct timespec second = {1, 0};
  r = ppoll(NULL, 0, &second, &none);
  printf("ppoll, pending before: %d %d handled %d blocked again %d\n", r, errno == EINTR, handled, blocked(SIGUSR1));
  handled = 0;
  t = send_later(SIGUSR1);
  r = ppoll(NULL, 0, &second, &none);
  printf("ppoll: %d %d handled %d blocked again %d\n", r, errno == EINTR, handled, blocked(SIGUSR1));
  pthread_join(t, NULL);
  struct timespec moment = {0, 1000000};
  r = ppoll(NULL, 0, &moment, &none);
  printf("ppoll, time out: %d blocked again %d\n", r, blocked(SIGUSR1));

  handled = 0;
  siginfo_t info;
  raise(SIGUSR1);
  r = sigtimedwait(&usr1, &info, &second);
  printf("sigtimedwait, pending before: %d code %d handled %d\n", r, info.si_code, handled);
  t = send_later(SIGUSR1);
  r = sigwaitinfo(&usr1, &info);
  printf("sigwaitinfo: %d code %d handled %d\n", r, info.si_code, handled);
  pthread_join(t, NULL);
  r = sigtimedwait(&usr1, &info, &moment);
  printf("time out: %d %d\n", r, errno == EAGAIN);
  struct timespec zero = {0, 0}, bad = {0, 1000000000};
  r = sigtimedwait(&usr1, NULL, &zero);
  printf("poll: %d %d\n", r, errno == EAGAIN);
  r = sigtimedwait(&usr1, NULL, &bad);
  printf("bad time: %d %d\n", r, errno == EINVAL);

  // Another signal's handler ends the wait.
  signal(SIGUSR2, handler);
  t = send_later(SIGUSR2);
  r = sigtimedwait(&usr1, NULL, &second);
  printf("other signal: %d %d handled %d\n", r, errno == EINTR, handled);
  pthread_join(t, NULL);

  handled = 0;
  t = send_later(SIGUSR2);
  r = pause();
  printf("pause: %d %d handled %d\n", r, errno == EINTR, handled);
  pthread_join(t, NULL);

  // A process-wide signal goes to the thread that waits for it.
  kill(getpid(), SIGUSR1);
  r = sigwaitinfo(&usr1, &info);
  printf("process-wide: %d code %d\n", r, info.si_code);
  return 0;
}
