// The guest's vDSO: clocks without an exit. Linked alone by vdso.lds; the time page lies right
// before the image. What the page does not answer goes to the monitor as a system call.
#include <stdint.h>

#include "vmm/vdso/time_data.h"

struct timespec64 {
  int64_t sec, nsec;
};
struct timeval64 {
  int64_t sec, usec;
};

enum {
  NR_GETTIMEOFDAY = 96,
  NR_TIME = 201,
  NR_CLOCK_GETTIME = 228,
  NR_CLOCK_GETRES = 229,
  NR_GETCPU = 309,
  NS_PER_SECOND = 1000000000,
  NS_PER_US = 1000
};

extern struct vmsrs_time_data const vmsrs_time_page __attribute__((visibility("hidden")));

static inline long call3(long nr, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

// Seconds and the rest, never negative: a clock before 1970 has its rest counted upwards.
static inline struct timespec64 split(int64_t ns) {
  struct timespec64 t = {ns / NS_PER_SECOND, ns % NS_PER_SECOND};
  if (t.nsec < 0) t.sec--, t.nsec += NS_PER_SECOND;
  return t;
}

int __vdso_clock_gettime(int clock, struct timespec64* to) {
  int64_t ns;
  if (vmsrs_time_read(&vmsrs_time_page, clock, &ns) != 1) return (int)call3(NR_CLOCK_GETTIME, clock, (long)to, 0);
  *to = split(ns);
  return 0;
}

int __vdso_gettimeofday(struct timeval64* to, void* zone) {
  int64_t ns;
  if (zone || vmsrs_time_read(&vmsrs_time_page, VMSRS_CLOCK_REALTIME, &ns) != 1)
    return (int)call3(NR_GETTIMEOFDAY, (long)to, (long)zone, 0);
  if (to) {
    struct timespec64 t = split(ns);
    to->sec = t.sec;
    to->usec = t.nsec / NS_PER_US;
  }
  return 0;
}

int64_t __vdso_time(int64_t* to) {
  int64_t ns;
  if (vmsrs_time_read(&vmsrs_time_page, VMSRS_CLOCK_REALTIME, &ns) != 1) return call3(NR_TIME, (long)to, 0, 0);
  int64_t sec = split(ns).sec;
  if (to) *to = sec;
  return sec;
}

int __vdso_clock_getres(int clock, struct timespec64* to) {
  if (clock != VMSRS_CLOCK_REALTIME && clock != VMSRS_CLOCK_MONOTONIC && clock != VMSRS_CLOCK_BOOTTIME)
    return (int)call3(NR_CLOCK_GETRES, clock, (long)to, 0);
  if (to) to->sec = 0, to->nsec = 1;
  return 0;
}

int __vdso_getcpu(unsigned* cpu, unsigned* node, void* unused) {
  (void)unused;
  if (!VMSRS_TIME_LOAD(vmsrs_time_page.cpu_from_aux)) return (int)call3(NR_GETCPU, (long)cpu, (long)node, 0);
  uint32_t low, high, aux;
  __asm__ volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
  if (cpu) *cpu = aux & 0xfff;
  if (node) *node = aux >> 12;
  return 0;
}

int clock_gettime(int, struct timespec64*) __attribute__((weak, alias("__vdso_clock_gettime")));
int gettimeofday(struct timeval64*, void*) __attribute__((weak, alias("__vdso_gettimeofday")));
int64_t time(int64_t*) __attribute__((weak, alias("__vdso_time")));
int clock_getres(int, struct timespec64*) __attribute__((weak, alias("__vdso_clock_getres")));
int getcpu(unsigned*, unsigned*, void*) __attribute__((weak, alias("__vdso_getcpu")));
