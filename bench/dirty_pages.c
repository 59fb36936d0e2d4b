/* The guest of bench/checkpoint.py: PAGES of its MIB of memory are written every MS milliseconds, each time others.
   Prints "ready", and "gap NS" when its clock has jumped: it was checkpointed, killed and restored. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  size_t const pages = strtoul(argv[1], NULL, 10), total = strtoul(argv[2], NULL, 10) * 256;
  long const ms = strtol(argv[3], NULL, 10);
  if (total < pages || total == 0) return 2;
  char* const memory = mmap(NULL, total * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  uint64_t seed = 1;
  for (size_t i = 0; i < total * 512; i++) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    ((uint64_t*)memory)[i] = i % 4 == 0 ? seed : seed >> 56; /* compresses as data of programs does, about */
  }
  printf("ready\n");
  fflush(stdout);
  int64_t last = now_ns(), next = last;
  for (size_t at = 0;;) {
    for (size_t i = 0; i < pages; i++) {
      memory[at * 4096 + 64]++;
      at = (at + 1) % total;
    }
    do {
      struct timespec const nap = {0, 500000};
      nanosleep(&nap, NULL);
      int64_t const now = now_ns();
      if (now - last > 200000000) {
        printf("gap %lld\n", (long long)(now - last));
        fflush(stdout);
      }
      last = now;
    } while (last < next);
    next += ms * 1000000;
    if (next < last) next = last;
  }
}
