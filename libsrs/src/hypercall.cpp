#include "libsrs/src/hypercall.hpp"

extern "C" long srs_hypercall_(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  register uint64_t r10 __asm__("r10") = d;
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return result;
}
