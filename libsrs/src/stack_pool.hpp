// Stacks of scopes: each with a guard below that nobody may touch, kept with the thread for its next scopes.
#ifndef SRS_SRC_STACK_POOL_HPP
#define SRS_SRC_STACK_POOL_HPP

#include "libsrs/src/thread.hpp"

namespace srs::lib {

constexpr uint64_t kStackDefault = 256 << 10;
constexpr uint64_t kStackLeast = 16 << 10;
constexpr uint64_t kStackMost = 64 << 20;
constexpr uint64_t kStackGuard = 64 << 10;

// size: a multiple of 4096. {0, 0} when there is no memory.
Stack stack_take(Thread* t, uint64_t size);
void stack_give(Thread* t, Stack stack);

}  // namespace srs::lib

#endif
