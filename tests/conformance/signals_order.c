// Standard signals coalesce, real-time ones queue in order; which runs first when several wait.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int log_signal[64], log_value[64], logged;

static void handler(int sig, siginfo_t* info, void* context) {
  (void)context;
  log_signal[logged] = sig;
  log_value[logged++] = info->si_code == SI_QUEUE ? info->si_value.sival_int : -1;
}

static void show(char const* title) {
  printf("%s:", title);
  for (int i = 0; i < logged; i++) {
    if (log_signal[i] >= SIGRTMIN) {
      printf(" RT+%d(%d)", log_signal[i] - SIGRTMIN, log_value[i]);
    } else {
      printf(" %d(%d)", log_signal[i], log_value[i]);
    }
  }
  printf("\n");
  logged = 0;
}

int main(void) {
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  int const signals[] = {SIGUSR1, SIGUSR2, SIGRTMIN, SIGRTMIN + 1, SIGRTMIN + 2};
  for (int serial = 1; serial >= 0; serial--) {
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
      struct sigaction action;
      memset(&action, 0, sizeof action);
      action.sa_sigaction = handler;
      action.sa_flags = SA_SIGINFO;
      if (serial) sigfillset(&action.sa_mask);
      sigaction(signals[i], &action, NULL);
    }
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int v = 0; v < 3; v++) {
      union sigval value = {.sival_int = v};
      sigqueue(getpid(), SIGRTMIN + 2, value);
      sigqueue(getpid(), SIGRTMIN, value);
      sigqueue(getpid(), SIGUSR2, value);
      kill(getpid(), SIGUSR1);
    }
    raise(SIGRTMIN + 1);
    sigprocmask(SIG_SETMASK, &none, NULL);
    show(serial ? "one after the other" : "nested");
  }

  // Ignoring a signal drops what is pending of it.
  sigprocmask(SIG_SETMASK, &all, NULL);
  union sigval value = {.sival_int = 9};
  sigqueue(getpid(), SIGRTMIN, value);
  sigqueue(getpid(), SIGRTMIN, value);
  signal(SIGRTMIN, SIG_IGN);
  sigset_t pending;
  sigpending(&pending);
  printf("pending after SIG_IGN: %d\n", sigismember(&pending, SIGRTMIN));

  // By sigwaitinfo: lowest number first, values in order.
  for (int v = 0; v < 2; v++) {
    value.sival_int = v;
    sigqueue(getpid(), SIGRTMIN + 2, value);
    sigqueue(getpid(), SIGRTMIN + 1, value);
  }
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  sigaddset(&set, SIGRTMIN + 2);
  for (int i = 0; i < 4; i++) {
    siginfo_t info;
    int const sig = sigwaitinfo(&set, &info);
    printf("waited: RT+%d(%d)\n", sig - SIGRTMIN, info.si_value.sival_int);
  }
  return 0;
}
