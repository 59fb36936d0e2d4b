#include "libsrs/src/heap.hpp"

#include <srs/instrument.h>

#include <cerrno>
#include <cstring>

#include "libsrs/src/arena.hpp"
#include "libsrs/src/guard.hpp"
#include "libsrs/src/log_note.hpp"

namespace srs::lib {

namespace {

std::atomic<uint64_t> epoch{1};
constexpr size_t kFlushAt = 64;
void (*foreign_release)(void*) = nullptr;  // the heap of blocks that are not ours

// The beginning of the oldest live scope; the largest number if none lives.
uint64_t oldest_scope() {
  uint64_t oldest = UINT64_MAX;
  uint32_t const top = slots_top;
  for (uint32_t i = 1; i < top; ++i) {
    if (threads[i] == nullptr) continue;
    uint64_t const begun = slot_private(slot_at(i))->epoch;
    if (begun != 0 && begun < oldest) oldest = begun;
  }
  return oldest;
}

}  // namespace

uint64_t heap_epoch() {
  return epoch;
}

void heap_flush(Thread* t) {
  if (t->waiting.size() == 0 || t->tainted) return;
  Critical critical(t);
  uint64_t const oldest = oldest_scope();
  for (size_t i = t->waiting.size(); i-- > 0;) {
    if (t->waiting[i].stamp >= oldest) continue;
    void* const block = t->waiting[i].block;
    t->waiting.remove(i);
    arena_release(t, block);
  }
}

namespace {

// Blocks that are given back together share a stamp, and one look at who lives.
class Retiring {
 public:
  explicit Retiring(Thread* t) : t_(t), stamp_(epoch.fetch_add(1)) {
    at_once_ = t->waiting.size() == 0 && oldest_scope() > stamp_;
  }
  void operator()(void* block) {
    if (!arena_end_block(block)) {  // not ours, or the other end of a double free
      if (foreign_release != nullptr && !arena_contains(block)) foreign_release(block);
      return;
    }
    if (t_->tainted) return;  // its arena may be locked for ever: the block leaks
    if (at_once_) {
      arena_release(t_, block);
      return;
    }
    if (!t_->waiting.push({block, stamp_})) return;  // no memory to remember it: it leaks rather than comes back early
    if (t_->waiting.size() % kFlushAt == 0) heap_flush(t_);
  }

 private:
  Thread* t_;
  uint64_t stamp_;
  bool at_once_;
};

}  // namespace

void heap_retire(Thread* t, void* block) {
  Critical critical(t);
  Retiring retire(t);
  retire(block);
}

void heap_commit(Thread* t, uint32_t depth) {
  if (t->deferred.size() == 0) return;
  Critical critical(t);
  if (depth > 0) {
    for (size_t i = t->deferred.size(); i-- > 0 && t->deferred[i].depth > depth;) t->deferred[i].depth = depth;
    return;
  }
  Retiring retire(t);
  while (t->deferred.size() > 0) {
    void* const block = t->deferred[t->deferred.size() - 1].block;
    t->deferred.shrink(t->deferred.size() - 1);
    retire(block);
  }
}

void heap_abort(Thread* t, uint32_t depth) {
  size_t n = t->deferred.size();
  while (n > 0 && t->deferred[n - 1].depth > depth) --n;
  t->deferred.shrink(n);
}

namespace {

// Whether the live scopes may have so much more; it counts for each that has a limit.
bool within_limits(Thread* t, uint64_t size) {
  uint64_t const depth = t->slot->depth;
  for (uint64_t i = 0; i < depth; ++i) {
    Scope const& scope = t->scopes[i];
    if (scope.memory_limit != 0 && size > scope.memory_limit - scope.allocated) return false;
  }
  return true;
}

void* allocate(size_t size, size_t alignment, bool zero) {
  Thread* const t = thread();
  if (t != nullptr && in_scope(t) && !within_limits(t, size)) {
    errno = ENOMEM;
    return nullptr;
  }
  size_t usable;
  void* const block = arena_allocate(t, size, alignment, zero, &usable);
  if (block == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  if (t != nullptr && in_scope(t)) {
    note(t, SRS_REC_ALLOC, reinterpret_cast<uint64_t>(block), usable);
    if (t->fresh_owner != t->slot->owner) {
      for (Fresh& f : t->fresh) f = {0, 0};
      t->fresh_owner = t->slot->owner;
    }
    Fresh const fresh{reinterpret_cast<uint64_t>(block), usable};
    t->fresh[t->fresh_next++ % kMaxFresh] = fresh;
    if (innermost(t).isolation != SRS_TRACK) fresh_block_set(t, fresh);
    for (uint64_t i = 0; i < t->slot->depth; ++i) t->scopes[i].allocated += size;
  }
  return block;
}

// True if an abort gave the block back while destructors still run.
bool freed_by_abort(Thread* t, void* block) {
  if (!t->unwinding) return false;
  for (size_t i = t->undone.size(); i-- > 0;) {
    if (t->undone[i] != block) continue;
    t->undone.remove(i);
    return true;
  }
  return false;
}

void release(void* block) {
  Thread* const t = thread();
  if (t != nullptr && freed_by_abort(t, block)) return;
  if (!arena_is_block(block)) {
    report_fault(SRS_FAULT_POINTER, "srs_free of a pointer that is no live block of srs_malloc");
    return;
  }
  if (guard_used && guard_contains(reinterpret_cast<uint64_t>(block)) &&
      !guard_slack_whole(reinterpret_cast<uint64_t>(block))) {
    report_fault(SRS_FAULT_POINTER, "srs_free of a block whose end was written over");
    return;
  }
  if (t == nullptr) {
    if (arena_end_block(block)) arena_release(nullptr, block);
    return;
  }
  if (!in_scope(t)) {
    heap_retire(t, block);
    return;
  }
  for (size_t i = t->deferred.size(); i-- > 0;) {
    if (t->deferred[i].block == block) {
      report_fault(SRS_FAULT_POINTER, "srs_free of a block that this scope has freed already");
      return;
    }
    if (t->deferred.size() - i >= 256) break;  // the search stays short; the heap notices the rest
  }
  Critical critical(t);
  t->deferred.push({block, static_cast<uint32_t>(t->slot->depth)});
}

}  // namespace
}  // namespace srs::lib

using namespace srs::lib;

extern "C" void* srs_malloc(size_t size) {
  return allocate(size, 16, false);
}

extern "C" void* srs_calloc(size_t count, size_t size) {
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) {
    errno = ENOMEM;
    return nullptr;
  }
  return allocate(total, 16, true);
}

extern "C" void* srs_aligned_alloc(size_t alignment, size_t size) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > (UINT64_C(1) << 30)) {
    errno = EINVAL;
    return nullptr;
  }
  return allocate(size, alignment < 16 ? 16 : alignment, false);
}

extern "C" void* srs_realloc(void* block, size_t size) {
  if (block == nullptr) return srs_malloc(size);
  if (!arena_is_block(block)) {
    report_fault(SRS_FAULT_POINTER, "srs_realloc of a pointer that is no live block of srs_malloc");
    return nullptr;
  }
  size_t const old = arena_block_size(block);
  if (size <= old && size > old / 2) return block;
  void* const fresh = srs_malloc(size);
  if (fresh == nullptr) return nullptr;
  srs_memcpy(fresh, block, size < old ? size : old);
  srs_free(block);
  return fresh;
}

extern "C" int srs_heap_contains(void const* address) {
  return arena_contains(address);
}

extern "C" void srs_free_foreign_(void* block, void (*release)(void*)) {
  Thread* const t = thread_if_known();
  if (t == nullptr || !in_scope(t)) {
    release(block);
    return;
  }
  foreign_release = release;
  Critical critical(t);
  t->deferred.push({block, static_cast<uint32_t>(t->slot->depth)});
}

extern "C" void srs_free(void* block) {
  if (block == nullptr) return;
  int const saved = errno;
  release(block);
  errno = saved;
}
