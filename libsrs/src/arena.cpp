#include "libsrs/src/arena.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "libsrs/src/guard.hpp"
#include "libsrs/src/jemalloc.hpp"
#include "libsrs/src/monitored.hpp"

// jemalloc reads it at its start: no thread of its own, pages kept, arenas only as we make them.
extern "C" {
char const* vje_malloc_conf = "narenas:1,background_thread:false,retain:true,dirty_decay_ms:5000";
}

namespace srs::lib {

namespace {

// One extent of the heap, never given back (jemalloc reuses it), with a bit for each 16 bytes at which a live block
// begins. The table only grows.
struct Chunk {
  uint64_t begin;
  uint64_t size;
  std::atomic<uint64_t>* starts;
};
constexpr unsigned kMaxChunks = 4096;
Chunk chunks[kMaxChunks];
std::atomic<uint32_t> chunk_count{0};
std::atomic<uint32_t> chunk_lock{0};

__thread uint32_t last_chunk __attribute__((tls_model("initial-exec")));

Chunk const* chunk_of(uint64_t address) {
  Chunk const& last = chunks[last_chunk];  // size 0 before there is one
  if (address - last.begin < last.size) return &last;
  for (uint32_t i = chunk_count.load(std::memory_order_acquire); i-- > 0;) {
    if (address - chunks[i].begin >= chunks[i].size) continue;
    last_chunk = i;
    return &chunks[i];
  }
  return nullptr;
}

void* map(size_t size) {
  void* const p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  // The host takes single pages of it away while it puts words right.
  madvise(p, size, MADV_NOHUGEPAGE);
  return p;
}

// ---- jemalloc's extent hooks ----

// The host undoes what system calls write into ranges that it knows of: the heap is one of them.
void announce(uint64_t begin, uint64_t size) {
  monitored_add(begin, size);
  if (srs_process_.active && srs_thread_.slot != nullptr) hypercall(SRS_HC_PROFILE, begin, size, "srs_malloc");
}

struct Hooks {
  void* (*alloc)(Hooks*, void*, size_t, size_t, bool*, bool*, unsigned);
  bool (*dalloc)(Hooks*, void*, size_t, bool, unsigned);
  void (*destroy)(Hooks*, void*, size_t, bool, unsigned);
  bool (*commit)(Hooks*, void*, size_t, size_t, size_t, unsigned);
  bool (*decommit)(Hooks*, void*, size_t, size_t, size_t, unsigned);
  bool (*purge_lazy)(Hooks*, void*, size_t, size_t, size_t, unsigned);
  bool (*purge_forced)(Hooks*, void*, size_t, size_t, size_t, unsigned);
  bool (*split)(Hooks*, void*, size_t, size_t, size_t, bool, unsigned);
  bool (*merge)(Hooks*, void*, size_t, void*, size_t, bool, unsigned);
};

void* extent_alloc(Hooks*, void* wanted, size_t size, size_t alignment, bool* zero, bool* commit, unsigned) {
  if (wanted != nullptr) return nullptr;  // no extent grows in place
  if (alignment < 4096) alignment = 4096;
  auto const raw = reinterpret_cast<uint64_t>(map(size + alignment));
  if (raw == 0) return nullptr;
  uint64_t const begin = (raw + alignment - 1) & ~(static_cast<uint64_t>(alignment) - 1);
  if (begin != raw) munmap(reinterpret_cast<void*>(raw), begin - raw);
  uint64_t const end = raw + size + alignment;
  if (end != begin + size) munmap(reinterpret_cast<void*>(begin + size), end - begin - size);
  void* const starts = map(size / 128 + 8);
  uint32_t free_lock = 0;
  while (!chunk_lock.compare_exchange_weak(free_lock, 1)) free_lock = 0;
  uint32_t const n = chunk_count.load(std::memory_order_relaxed);
  bool const room = n < kMaxChunks && starts != nullptr;
  if (room) {
    chunks[n] = {begin, size, static_cast<std::atomic<uint64_t>*>(starts)};
    chunk_count.store(n + 1, std::memory_order_release);
  }
  chunk_lock.store(0);
  if (!room) {
    if (starts != nullptr) munmap(starts, size / 128 + 8);
    munmap(reinterpret_cast<void*>(begin), size);
    return nullptr;
  }
  announce(begin, size);
  *zero = true;
  *commit = true;
  return reinterpret_cast<void*>(begin);
}
bool extent_keep(Hooks*, void*, size_t, bool, unsigned) {
  return true;
}
void extent_destroy(Hooks*, void*, size_t, bool, unsigned) {}
bool extent_purge(Hooks*, void* p, size_t, size_t offset, size_t length, unsigned) {
  return madvise(static_cast<char*>(p) + offset, length, MADV_DONTNEED) != 0;
}
bool extent_split(Hooks*, void*, size_t, size_t, size_t, bool, unsigned) {
  return false;
}
bool extent_merge(Hooks*, void* a, size_t, void* b, size_t, bool, unsigned) {
  return chunk_of(reinterpret_cast<uint64_t>(a)) != chunk_of(reinterpret_cast<uint64_t>(b));
}

Hooks hooks = {extent_alloc, extent_keep,  extent_destroy, nullptr,     nullptr,
               nullptr,      extent_purge, extent_split,   extent_merge};

// ---- arenas ----

unsigned make_arena() {
  unsigned arena = 0;
  size_t size = sizeof arena;
  Hooks* const h = &hooks;
  void* fresh = const_cast<Hooks**>(&h);
  if (vje_mallctl("arenas.create", &arena, &size, fresh, sizeof h) != 0) return 0;
  return arena;
}

// Threads share this many, made when first wanted: enough that a fault inside one rarely stops a neighbour.
constexpr unsigned kArenas = 32;
std::atomic<uint32_t> arena_of[kArenas];
std::atomic<uint32_t> arena_next{0};
__thread bool bound __attribute__((tls_model("initial-exec")));

bool bind_thread() {
  unsigned const limit = srs_process_.active ? kArenas : 4;
  std::atomic<uint32_t>& mine = arena_of[arena_next.fetch_add(1) % limit];
  uint32_t arena = mine;
  if (arena == 0) {
    arena = make_arena();
    if (arena == 0) return false;
    uint32_t none = 0;
    if (!mine.compare_exchange_strong(none, arena)) arena = none;  // a twin was made: it stays empty
  }
  unsigned value = arena;
  if (vje_mallctl("thread.arena", nullptr, nullptr, &value, sizeof value) != 0) return false;
  bound = true;
  return true;
}

std::atomic<uint64_t>* start_word(Chunk const* chunk, uint64_t address, uint64_t* bit) {
  uint64_t const granule = (address - chunk->begin) / 16;
  *bit = UINT64_C(1) << (granule & 63);
  return &chunk->starts[granule >> 6];
}

}  // namespace

void* arena_allocate(Thread* t, size_t size, size_t alignment, bool zero, size_t* usable) {
  Critical critical(t);
  int flags = zero ? kJeZero : 0;
  if (alignment > 16 || size < 16) flags |= kJeLgAlign(static_cast<unsigned>(__builtin_ctzl(alignment)));
  if (size == 0) size = 1;
  if (size > PTRDIFF_MAX) return nullptr;
  if (t != nullptr && t->tainted) {
    static std::atomic<uint32_t> spare{0};
    if (spare == 0) spare = make_arena();
    flags |= kJeArena(spare) | kJeTcacheNone;
  } else if (!bound && !bind_thread()) {
    return nullptr;
  }
  if (guard_used) {
    void* const guarded = guard_allocate(size, alignment);
    if (guarded != nullptr) {  // its pages are fresh: zero
      *usable = size;
      return guarded;
    }
  }
  void* const block = vje_mallocx(size, flags);
  if (block == nullptr) return nullptr;
  *usable = vje_nallocx(size, flags);  // computed: quicker than to look the block up
  auto const address = reinterpret_cast<uint64_t>(block);
  Chunk const* const chunk = chunk_of(address);
  if (chunk == nullptr) die("the heap returned a block outside its chunks");
  uint64_t bit;
  start_word(chunk, address, &bit)->fetch_or(bit, std::memory_order_relaxed);
  return block;
}

void arena_release(Thread* t, void* block) {
  Critical critical(t);
  if (guard_used && guard_contains(reinterpret_cast<uint64_t>(block))) {
    guard_release(reinterpret_cast<uint64_t>(block));
  } else if (quarantine_used) {
    quarantine_take(block, arena_block_size(block), [](void* old) { vje_dallocx(old, 0); });
  } else {
    vje_dallocx(block, 0);
  }
}

size_t arena_block_size(void const* block) {
  if (guard_used && guard_contains(reinterpret_cast<uint64_t>(block)))
    return guard_block_size(reinterpret_cast<uint64_t>(block));
  return vje_sallocx(block, 0);
}

bool arena_contains(void const* address) {
  if (guard_used && guard_contains(reinterpret_cast<uint64_t>(address))) return true;
  return chunk_of(reinterpret_cast<uint64_t>(address)) != nullptr;
}

bool arena_is_block(void const* block) {
  auto const address = reinterpret_cast<uint64_t>(block);
  if (guard_used && guard_contains(address)) return guard_is_block(address);
  Chunk const* const chunk = chunk_of(address);
  if (chunk == nullptr || (address & 15) != 0) return false;
  uint64_t bit;
  return (start_word(chunk, address, &bit)->load(std::memory_order_relaxed) & bit) != 0;
}

bool arena_end_block(void const* block) {
  auto const address = reinterpret_cast<uint64_t>(block);
  if (guard_used && guard_contains(address)) return guard_end_block(address);
  Chunk const* const chunk = chunk_of(address);
  if (chunk == nullptr || (address & 15) != 0) return false;
  uint64_t bit;
  std::atomic<uint64_t>* const word = start_word(chunk, address, &bit);
  return (word->fetch_and(~bit, std::memory_order_relaxed) & bit) != 0;
}

Object arena_object(uint64_t address) {
  if (guard_used && guard_contains(address)) return guard_object(address);
  Chunk const* const chunk = chunk_of(address);
  if (chunk == nullptr) return {0, 0};
  uint64_t const granule = (address - chunk->begin) / 16;
  uint64_t i = granule >> 6;
  uint64_t seen = chunk->starts[i].load(std::memory_order_relaxed);
  seen &= ~UINT64_C(0) >> (63 - (granule & 63));
  while (seen == 0 && i > 0) seen = chunk->starts[--i].load(std::memory_order_relaxed);
  if (seen == 0) return {0, 0};
  uint64_t const first = i * 64 + (63 - static_cast<unsigned>(__builtin_clzl(seen)));
  uint64_t const begin = chunk->begin + first * 16;
  uint64_t const size = arena_block_size(reinterpret_cast<void*>(begin));
  if (address - begin > size) return {0, 0};
  return {begin, size};
}

}  // namespace srs::lib
