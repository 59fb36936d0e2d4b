// Clocks: from the vDSO and by system call they agree and never run backwards, across threads too; every clock id.
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

static _Atomic int64_t latest;
static _Atomic int backwards;

static int64_t ns(struct timespec t) {
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int64_t by_vdso(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return ns(t);
}

static int64_t by_call(clockid_t clock) {
  struct timespec t;
  syscall(SYS_clock_gettime, clock, &t);
  return ns(t);
}

static void* reads(void* calls) {
  int const by_calls = calls != NULL;
  for (int i = 0; i < (by_calls ? 2000 : 200000); i++) {
    int64_t const seen = atomic_load(&latest);
    int64_t const now = by_calls ? by_call(CLOCK_MONOTONIC) : by_vdso(CLOCK_MONOTONIC);
    if (now < seen) atomic_fetch_add(&backwards, 1);
    int64_t old = seen;
    while (old < now && !atomic_compare_exchange_weak(&latest, &old, now)) {
    }
  }
  return NULL;
}

static int fails(long result, int error) {
  return result == -1 && errno == error;
}

int main(void) {
  printf("vDSO: %d\n", getauxval(AT_SYSINFO_EHDR) != 0);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, reads, i == 0 ? (void*)1 : NULL);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  printf("backwards: %d\n", atomic_load(&backwards));

  clockid_t const shared[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
  for (int i = 0; i < 3; i++) {
    int ordered = 1;
    for (int j = 0; j < 1000; j++) {
      int64_t const a = by_call(shared[i]), b = by_vdso(shared[i]), c = by_call(shared[i]);
      if (a > b || b > c) ordered = 0;
    }
    printf("clock %d: call <= vDSO <= call %d\n", (int)shared[i], ordered);
  }
  clockid_t const all[] = {CLOCK_REALTIME,          CLOCK_MONOTONIC,     CLOCK_PROCESS_CPUTIME_ID,
                           CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                           CLOCK_MONOTONIC_COARSE,  CLOCK_BOOTTIME,      CLOCK_TAI};
  for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
    struct timespec t, res;
    int const got = clock_gettime(all[i], &t), got_res = clock_getres(all[i], &res);
    printf("clock %d: %d %d, resolution %ld, counts %d\n", (int)all[i], got, got_res, res.tv_nsec, ns(t) > 0);
  }
  struct timespec t;
  printf("no such clock: %d %d\n", fails(clock_gettime(77, &t), EINVAL), fails(clock_getres(77, &t), EINVAL));
  printf("bad pointer: %d\n", fails(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8L), EFAULT));

  // The CPU's number without a call and with one: a move between the two is rare.
  int agreed = 0;
  for (int i = 0; i < 200; i++) {
    unsigned cpu = 0;
    int const before = sched_getcpu();
    syscall(SYS_getcpu, &cpu, NULL, NULL);
    agreed += before == (int)cpu;
  }
  printf("cpu number: agreed %d\n", agreed > 50);

  struct timeval day;
  gettimeofday(&day, NULL);
  time_t const now = time(NULL);
  printf("same second: %d\n", now - day.tv_sec >= 0 && now - day.tv_sec <= 1);

  clockid_t own, whole;
  pthread_getcpuclockid(pthread_self(), &own);
  clock_getcpuclockid(0, &whole);
  int64_t const before = by_vdso(own);
  while (by_vdso(own) - before < 5000000) {
  }
  printf("own cpu clock runs, process at least as far: %d\n", by_vdso(whole) >= by_vdso(own));
  int64_t const wall = by_vdso(CLOCK_MONOTONIC), cpu = by_vdso(CLOCK_THREAD_CPUTIME_ID);
  usleep(100000);
  printf("asleep: no cpu time %d\n", by_vdso(CLOCK_THREAD_CPUTIME_ID) - cpu < (by_vdso(CLOCK_MONOTONIC) - wall) / 2);

  struct timespec sleep = {0, 20000000}, bad = {0, 1000000000};
  int64_t const start = by_vdso(CLOCK_MONOTONIC);
  int const slept = nanosleep(&sleep, NULL);
  printf("sleep: %d, long enough %d\n", slept, by_vdso(CLOCK_MONOTONIC) - start >= 19990000);
  printf("bad sleep: %d %d\n", fails(nanosleep(&bad, NULL), EINVAL),
         clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &sleep, NULL) == EINVAL);
  struct timespec past = {1, 0};
  printf("absolute in the past: %d\n", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL));
  struct tms used;
  int const timed = times(&used) != (clock_t)-1;
  printf("times: %d %d\n", timed, used.tms_utime + used.tms_stime >= 0);
  struct timex state;
  memset(&state, 0, sizeof state);
  printf("adjtimex: %d\n", adjtimex(&state) >= 0);
  return 0;
}
