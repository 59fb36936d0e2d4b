// The heap of UDF libraries: blocks of libsrs's heap, so that an aborted call's are given back and frees of an aborted
// call never happened. Behind each block lies a red zone, in front of it a header; a freed block is filled with a
// pattern that is no address.
//
// Any thread; inside a scope or outside. A pointer that is not of this heap goes to the C library's free.
#ifndef EXAMPLES_MYSQL_SHIM_HEAP_HPP
#define EXAMPLES_MYSQL_SHIM_HEAP_HPP

#include <cstddef>
#include <cstdint>

namespace mysql_shim {

enum class Damage : uint8_t {
  kNone,
  kEdge,     // the red zone's beginning is overwritten, its end is whole: nothing else was hit by that
  kThrough,  // all of the red zone, or the header: a neighbour may be hit
};

// The blocks that one UDF call has allocated and not freed. Lives in the caller's frame.
struct Ledger {
  static constexpr unsigned kMost = 256;  // later blocks are checked when they are freed
  Ledger() {}                             // leaves `blocks` as they are: a call is made often
  void* blocks[kMost];                    // `count` of them
  unsigned count = 0;
  Damage worst = Damage::kNone;  // of blocks that were freed
};
// This thread's allocations are noted there from now on; null: nowhere.
void note_in(Ledger* ledger);
// The worst that has befallen a block of the ledger.
Damage damage(Ledger const& ledger);

// The function of the shim that takes the place of a library's import, or null.
void* heap_function(char const* symbol);

}  // namespace mysql_shim

#endif
