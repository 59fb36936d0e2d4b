// setitimer, alarm and POSIX timers: delivery, siginfo, overruns, what is left.
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static volatile int count, code, value, handler_tid;
static volatile int thread_calls;
static timer_t periodic;
static volatile int overruns;  // the most of one signal of the periodic timer

static void handler(int sig, siginfo_t* info, void* context) {
  (void)sig;
  (void)context;
  count++;
  code = info->si_code;
  value = info->si_code == SI_TIMER ? info->si_value.sival_int : 0;
  handler_tid = (int)syscall(SYS_gettid);
  if (value == 77) {  // here, since the next signal would begin another count
    int const now = timer_getoverrun(periodic);
    overruns = now > overruns ? now : overruns;
  }
}

static void on_thread(union sigval v) {
  thread_calls += v.sival_int;
}

static long ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void* targeted(void* arg) {
  (void)arg;
  timer_t timer;
  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGUSR1;
  event.sigev_value.sival_int = 5;
  event.sigev_notify_thread_id = (int)syscall(SYS_gettid);
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) perror("timer_create");
  struct itimerspec once = {.it_value = {0, 20000000}};
  count = 0;
  timer_settime(timer, 0, &once, NULL);
  while (count == 0) usleep(5000);
  printf("thread id: value %d in the thread %d\n", value, handler_tid == (int)syscall(SYS_gettid));
  timer_delete(timer);
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
  sigaction(SIGALRM, &action, NULL);
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGVTALRM, &action, NULL);
  sigaction(SIGPROF, &action, NULL);

  long start = ms();
  struct itimerval period = {.it_interval = {0, 20000}, .it_value = {0, 20000}};
  setitimer(ITIMER_REAL, &period, NULL);
  while (count < 5) pause();
  struct itimerval left, off;
  memset(&off, 0, sizeof off);
  setitimer(ITIMER_REAL, &off, &left);
  printf("itimer: five in time %d, code %d, interval %ld\n", ms() - start >= 99 && ms() - start < 10000, code,
         (long)left.it_interval.tv_usec);
  getitimer(ITIMER_REAL, &left);
  printf("off: %ld %ld\n", (long)left.it_value.tv_sec, (long)left.it_value.tv_usec);
  printf("alarm: %u", alarm(100));
  printf(" %u", alarm(50));
  printf(" %u\n", alarm(0));
  printf("bad timer: %d\n", fails(getitimer((enum __itimer_which)7, &left), EINVAL));

  count = 0;
  period.it_value.tv_usec = period.it_interval.tv_usec = 10000;
  setitimer(ITIMER_VIRTUAL, &period, NULL);
  while (count < 2) {
  }
  setitimer(ITIMER_VIRTUAL, &off, NULL);
  printf("virtual: came\n");
  count = 0;
  setitimer(ITIMER_PROF, &period, NULL);
  while (count < 2) {
  }
  setitimer(ITIMER_PROF, &off, NULL);
  printf("prof: came\n");

  struct sigevent event;
  memset(&event, 0, sizeof event);
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  event.sigev_value.sival_int = 77;
  if (timer_create(CLOCK_MONOTONIC, &event, &periodic) != 0) perror("timer_create");
  struct itimerspec spec = {.it_interval = {0, 5000000}, .it_value = {0, 5000000}}, was;
  sigset_t usr1, old;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  sigprocmask(SIG_BLOCK, &usr1, &old);
  count = 0;
  timer_settime(periodic, 0, &spec, NULL);
  usleep(60000);
  sigprocmask(SIG_SETMASK, &old, NULL);
  // Who sends the monitor's signals may get its processor later; what it counted is then told by a later one.
  for (start = ms(); overruns < 3 && ms() - start < 10000;) usleep(1000);
  printf("timer: code %d value %d, one signal for many %d\n", code, value, count >= 1 && overruns >= 3);
  memset(&spec, 0, sizeof spec);
  timer_settime(periodic, 0, &spec, &was);
  printf("period was %ld\n", was.it_interval.tv_nsec);
  timer_gettime(periodic, &was);
  printf("stopped: %ld %ld\n", (long)was.it_value.tv_sec, was.it_value.tv_nsec);
  clock_gettime(CLOCK_REALTIME, &spec.it_value);
  printf("delete: %d\n", timer_delete(periodic));
  printf("gone: %d\n", fails(syscall(SYS_timer_gettime, (int)(long)periodic + 1000, &was), EINVAL));

  timer_t cpu;
  event.sigev_value.sival_int = 78;
  if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &cpu) != 0) perror("timer_create");
  count = 0;
  struct itimerspec soon = {.it_value = {0, 20000000}};
  timer_settime(cpu, 0, &soon, NULL);
  while (count == 0) {
  }
  printf("cpu timer: value %d\n", value);
  timer_delete(cpu);

  pthread_t thread;
  pthread_create(&thread, NULL, targeted, NULL);
  pthread_join(thread, NULL);

  event.sigev_notify = SIGEV_THREAD;
  event.sigev_notify_function = on_thread;
  event.sigev_notify_attributes = NULL;
  event.sigev_value.sival_int = 3;
  timer_t by_thread;
  if (timer_create(CLOCK_REALTIME, &event, &by_thread) != 0) perror("timer_create");
  timer_settime(by_thread, 0, &soon, NULL);
  while (thread_calls == 0) usleep(1000);
  printf("on a thread: %d\n", thread_calls);
  timer_delete(by_thread);
  return 0;
}
