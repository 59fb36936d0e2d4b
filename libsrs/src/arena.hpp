// The monitored heap: blocks from a jemalloc of our own, on chunks of ours, and what pointer checks know of them.
#ifndef SRS_SRC_ARENA_HPP
#define SRS_SRC_ARENA_HPP

#include <cstddef>
#include <cstdint>

#include "libsrs/src/thread.hpp"

namespace srs::lib {

// A fresh block of *usable bytes, or null. alignment: a power of two, at least 16.
void* arena_allocate(Thread* t, size_t size, size_t alignment, bool zero, size_t* usable);
// Gives a live block up for good.
void arena_release(Thread* t, void* block);
size_t arena_block_size(void const* block);

struct Object {
  uint64_t begin;
  uint64_t size;  // 0: not within a block
};
// The live block that holds `address`.
Object arena_object(uint64_t address);
// Whether the address lies in a chunk of the heap.
bool arena_contains(void const* address);
// Whether `block` is what an allocation returned, and is live. Clears that with `end`; false if another did before.
bool arena_is_block(void const* block);
bool arena_end_block(void const* block);

}  // namespace srs::lib

#endif
