// Blocks of the monitored heap in the life of scopes: journalled, freed at commit, reused when nobody may remember.
#ifndef SRS_SRC_HEAP_HPP
#define SRS_SRC_HEAP_HPP

#include "libsrs/src/thread.hpp"

namespace srs::lib {

// The blocks that scopes deeper than `depth` freed: they commit (become the parent's, or are freed)…
void heap_commit(Thread* t, uint32_t depth);
// …or their frees never happened.
void heap_abort(Thread* t, uint32_t depth);
// Frees a live block now: it is reused when every scope that lives at this moment has ended.
void heap_retire(Thread* t, void* block);
// Gives back what no live scope can remember any more.
void heap_flush(Thread* t);
// The number that a beginning scope puts into its slot.
uint64_t heap_epoch();

}  // namespace srs::lib

#endif
