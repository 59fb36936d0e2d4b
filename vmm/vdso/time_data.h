// The time page: what the guest's vDSO and the monitor both read the clocks from. C, because the
// vDSO is freestanding C.
//
// Time is a line through (tsc, ns). A new line takes effect at a counter value in the future
// (switch_tsc) and meets the old one there, so every reader, whatever it has read of either, is on
// one continuous, never falling curve. The sequence number is odd while the page is written.
#ifndef VMSRS_VMM_VDSO_TIME_DATA_H
#define VMSRS_VMM_VDSO_TIME_DATA_H

#include <stdint.h>

struct vmsrs_time_line {
  uint64_t tsc;   // counter value at the line's start
  int64_t ns;     // CLOCK_MONOTONIC there
  uint64_t mult;  // ns per tick, times 2^32
};

struct vmsrs_time_data {
  uint32_t seq;
  uint32_t valid;         // 0: the counter is no clock here; ask the monitor
  uint32_t cpu_from_aux;  // IA32_TSC_AUX holds node << 12 | cpu, as Linux sets it
  uint32_t reserved;
  uint64_t switch_tsc;  // before: `before`; from here on: `after`
  struct vmsrs_time_line before, after;
  int64_t realtime_offset;  // CLOCK_REALTIME - CLOCK_MONOTONIC, ns
  int64_t boottime_offset;  // CLOCK_BOOTTIME - CLOCK_MONOTONIC, ns
};

enum {
  VMSRS_TIME_PAGE_SIZE = 4096,
  // A writer holds the sequence number for tens of ns; a reader that sees it odd for so long has
  // met a writer that lost its CPU.
  VMSRS_TIME_TRIES = 1000,
  // clockid_t of the clocks that are served, from linux/time.h
  VMSRS_CLOCK_REALTIME = 0,
  VMSRS_CLOCK_MONOTONIC = 1,
  VMSRS_CLOCK_REALTIME_COARSE = 5,
  VMSRS_CLOCK_MONOTONIC_COARSE = 6,
  VMSRS_CLOCK_BOOTTIME = 7
};

// Acquire, so that the last look at the sequence number stays behind them; free on x86.
#define VMSRS_TIME_LOAD(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

// Neither earlier loads nor later ones pass the counter's read: the sequence number brackets it.
static inline uint64_t vmsrs_read_tsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence\n\trdtsc\n\tlfence" : "=a"(low), "=d"(high) : : "memory");
  return (uint64_t)high << 32 | low;
}

static inline int64_t vmsrs_on_line(struct vmsrs_time_line const* line, uint64_t tsc) {
  int64_t delta = (int64_t)(tsc - line->tsc);
  if (delta < 0) delta = 0;  // counters of two CPUs differ by some ticks
  return line->ns + (int64_t)(((unsigned __int128)(uint64_t)delta * line->mult) >> 32);
}

// 1: *ns is the clock's time. 0: not a clock of the page. -1: the page is being written, and its writer has lost its
// CPU; the guest then asks the monitor, which waits: another clock would not fit to this one to the nanosecond.
static inline int vmsrs_time_read(struct vmsrs_time_data const* page, int clock, int64_t* ns) {
  if (clock != VMSRS_CLOCK_MONOTONIC && clock != VMSRS_CLOCK_REALTIME && clock != VMSRS_CLOCK_BOOTTIME &&
      clock != VMSRS_CLOCK_MONOTONIC_COARSE && clock != VMSRS_CLOCK_REALTIME_COARSE)
    return 0;
  for (int i = 0; i < VMSRS_TIME_TRIES; i++) {
    uint32_t const seq = __atomic_load_n(&page->seq, __ATOMIC_ACQUIRE);
    if (seq & 1) {
      __asm__ volatile("pause");
      continue;
    }
    if (!VMSRS_TIME_LOAD(page->valid)) return 0;
    uint64_t const tsc = vmsrs_read_tsc();
    struct vmsrs_time_line const* const now = tsc < VMSRS_TIME_LOAD(page->switch_tsc) ? &page->before : &page->after;
    struct vmsrs_time_line const line = {VMSRS_TIME_LOAD(now->tsc), VMSRS_TIME_LOAD(now->ns),
                                         VMSRS_TIME_LOAD(now->mult)};
    int64_t offset = 0;
    if (clock == VMSRS_CLOCK_REALTIME || clock == VMSRS_CLOCK_REALTIME_COARSE)
      offset = VMSRS_TIME_LOAD(page->realtime_offset);
    if (clock == VMSRS_CLOCK_BOOTTIME) offset = VMSRS_TIME_LOAD(page->boottime_offset);
    if (__atomic_load_n(&page->seq, __ATOMIC_RELAXED) != seq) continue;
    *ns = vmsrs_on_line(&line, tsc) + offset;
    return 1;
  }
  return -1;
}

#endif
