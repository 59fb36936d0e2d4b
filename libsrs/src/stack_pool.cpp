#include "libsrs/src/stack_pool.hpp"

#include <sys/mman.h>

namespace srs::lib {

Stack stack_take(Thread* t, uint64_t size) {
  for (Stack& s : t->spare) {
    if (s.low == 0 || s.size != size) continue;
    Stack const found = s;
    s = {0, 0};
    return found;
  }
  void* const p = mmap(nullptr, size + kStackGuard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return {0, 0};
  auto const low = reinterpret_cast<uint64_t>(p) + kStackGuard;
  if (mprotect(reinterpret_cast<void*>(low), size, PROT_READ | PROT_WRITE) != 0) {
    munmap(p, size + kStackGuard);
    return {0, 0};
  }
  return {low, size};
}

void stack_give(Thread* t, Stack stack) {
  if (stack.low == 0) return;
  if (stack.size <= 4 * kStackDefault) {
    for (Stack& s : t->spare) {
      if (s.low != 0) continue;
      s = stack;
      return;
    }
  }
  munmap(reinterpret_cast<void*>(stack.low - kStackGuard), stack.size + kStackGuard);
}

}  // namespace srs::lib
