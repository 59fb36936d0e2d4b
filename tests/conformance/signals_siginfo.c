// Handlers with siginfo for each way of sending, and what of it the handler sees.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static volatile siginfo_t seen;
static volatile int count;
static volatile int red_zone_ok;

static void handler(int sig, siginfo_t* info, void* context) {
  seen = *info;
  count++;
  ucontext_t* uc = context;
  red_zone_ok = (unsigned long)uc->uc_mcontext.gregs[REG_RSP] > (unsigned long)__builtin_frame_address(0) + 128;
  (void)sig;
}

static void show(char const* how) {
  siginfo_t s = seen;
  printf("%s: count %d signo %d code %d pid %s uid %s value %d red zone %d\n", how, count, s.si_signo, s.si_code,
         s.si_pid == getpid() ? "own" : "other", s.si_uid == getuid() ? "own" : "other",
         s.si_code == SI_QUEUE ? s.si_value.sival_int : 0, red_zone_ok);
}

static void* other_thread(void* arg) {
  pthread_kill(*(pthread_t*)arg, SIGUSR2);
  return NULL;
}

static int fails(long result, int error) {
  return result == -1 && errno == error;
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);
  sigaction(SIGRTMIN + 3, &action, NULL);

  kill(getpid(), SIGUSR1);
  show("kill");
  raise(SIGUSR1);
  show("raise");
  pthread_kill(pthread_self(), SIGUSR2);
  show("pthread_kill");
  union sigval value = {.sival_int = 42};
  sigqueue(getpid(), SIGRTMIN + 3, value);
  show("sigqueue");

  pthread_t self = pthread_self(), thread;
  int before = count;
  pthread_create(&thread, NULL, other_thread, &self);
  pthread_join(thread, NULL);
  while (count == before) usleep(1000);
  show("from another thread");

  printf("kill 0: %d\n", kill(getpid(), 0));
  printf("bad signal: %d\n", fails(kill(getpid(), 65), EINVAL));
  printf("no such thread: %d\n", fails(syscall(SYS_tgkill, getpid(), 0x3fffff, SIGUSR1), ESRCH));
  printf("SIGKILL action: %d\n", fails(sigaction(SIGKILL, &action, NULL), EINVAL));

  struct sigaction old;
  sigaction(SIGUSR1, NULL, &old);
  printf("read back: %d flags %x\n", old.sa_sigaction == handler, (unsigned)old.sa_flags & ~0x04000000U);
  action.sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER;
  sigaction(SIGUSR1, &action, NULL);
  raise(SIGUSR1);
  sigaction(SIGUSR1, NULL, &old);
  printf("reset hand: %d\n", old.sa_handler == SIG_DFL);
  return 0;
}
