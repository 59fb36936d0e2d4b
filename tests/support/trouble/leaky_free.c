// Preloaded into a server: makes it leak. From LEAK_AFTER seconds after the start on, every LEAK_EVERY-th block that it
// frees is kept for ever. A real leak of the server's own allocations, in a program that was not changed.
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

extern void __libc_free(void*);  // NOLINT(bugprone-reserved-identifier): glibc's own name for it

static atomic_ulong g_frees;
static atomic_ulong g_every;  // 0: not leaking yet
static time_t g_from;
static unsigned long g_planned;

static time_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return t.tv_sec;
}

__attribute__((constructor)) static void start(void) {
  char const* const after = getenv("LEAK_AFTER");
  char const* const every = getenv("LEAK_EVERY");
  if (after == NULL || every == NULL) return;
  g_planned = strtoul(every, NULL, 10);
  g_from = now() + strtol(after, NULL, 10);
}

void free(void* block) {
  unsigned long const n = atomic_fetch_add_explicit(&g_frees, 1, memory_order_relaxed);
  unsigned long const every = atomic_load_explicit(&g_every, memory_order_relaxed);
  if (every != 0 && n % every == 0) return;
  if (every == 0 && g_planned != 0 && n % 256 == 0 && now() >= g_from) g_every = g_planned;
  __libc_free(block);
}
