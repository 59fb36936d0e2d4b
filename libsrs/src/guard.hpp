// SRS_HEAP=guard[=N],quarantine[=MiB]: a heap that finds overflows and uses after free, for a price.
//
// guard: every N-th block (1: each) gets pages of its own and ends where an inaccessible page begins. When it is freed
// its pages are made inaccessible, and are used again only when the region has no others left.
// quarantine: other blocks, when freed, are filled with a pattern that is no address, and are given back only when so
// many MiB have been freed after them; a block whose pattern was written over by then is told to the monitor.
//
// Thread-safe. All functions but guard_choose() want Critical held by the caller where a slot is known.
#ifndef SRS_SRC_GUARD_HPP
#define SRS_SRC_GUARD_HPP

#include <cstddef>
#include <cstdint>

#include "libsrs/src/arena.hpp"

namespace srs::lib {

extern bool guard_used;       // blocks with pages of their own exist or may come
extern bool quarantine_used;  // freed blocks wait

// Reads SRS_HEAP, at the attach. Ends the process with a message where it names what there is not.
void guard_choose();

// A block at the end of its pages; null: not this one's turn, too large, or no room.
void* guard_allocate(size_t size, size_t alignment);
bool guard_contains(uint64_t address);
// As the arena_ functions of these names, for an address that guard_contains().
bool guard_is_block(uint64_t address);
bool guard_end_block(uint64_t address);
size_t guard_block_size(uint64_t address);
Object guard_object(uint64_t address);
void guard_release(uint64_t address);
// Whether the bytes between the block's end and its page's are as they were left: no overrun by a few bytes.
bool guard_slack_whole(uint64_t address);

// Takes a freed block of the ordinary heap; some that have waited long enough come back through `release`.
void quarantine_take(void* block, size_t size, void (*release)(void*));

}  // namespace srs::lib

#endif
