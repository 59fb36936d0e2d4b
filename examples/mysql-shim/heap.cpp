#include "examples/mysql-shim/heap.hpp"

#include <srs/srs.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

namespace mysql_shim {
namespace {

// [ padding ] header | the caller's bytes | red zone
struct Header {
  uint64_t size;    // of the caller's bytes
  uint64_t offset;  // from the block's beginning to the caller's bytes
  uint64_t check;   // over both and the address
  uint64_t mark;    // kLive, or kFreed
};
constexpr uint64_t kLive = 0x6576696c2e666475, kFreed = 0x656572662e666475;
constexpr size_t kHeader = sizeof(Header), kZone = 64, kZoneEnd = 16, kFillMost = 1024;
constexpr unsigned char kZoneByte = 0xb7, kFreedByte = 0xf5;  // eight of either are no canonical address
static_assert(kHeader % 16 == 0);

uint64_t live_blocks = 0;
__thread Ledger* ledger = nullptr;

Header* header_of(void* p) {
  return static_cast<Header*>(p) - 1;
}
uint64_t check_of(Header const& h, void const* p) {
  return (h.size * 0x9e3779b97f4a7c15) ^ (h.offset << 32) ^ reinterpret_cast<uint64_t>(p) ^ 0x5bd1e995a1b2c3d4;
}

Damage damage_of(void* p) {
  Header const h = *header_of(p);
  if (h.check != check_of(h, p) || (h.mark != kLive && h.mark != kFreed)) return Damage::kThrough;
  auto const* zone = static_cast<unsigned char const*>(p) + h.size;
  size_t broken = 0;
  while (broken < kZone && zone[kZone - 1 - broken] == kZoneByte) ++broken;
  if (broken == kZone) return Damage::kNone;
  return broken >= kZoneEnd ? Damage::kEdge : Damage::kThrough;
}

void* allocate(size_t size, size_t alignment) {
  size_t const offset = std::max(kHeader, alignment);
  size_t total;
  if (__builtin_add_overflow(size, offset + kZone, &total)) {
    errno = ENOMEM;
    return nullptr;
  }
  auto* const block = static_cast<char*>(srs_aligned_alloc(std::max<size_t>(alignment, 16), total));
  if (block == nullptr) return nullptr;
  char* const p = block + offset;
  Header& h = *header_of(p);
  h = {size, offset, 0, kLive};
  h.check = check_of(h, p);
  std::memset(p + size, kZoneByte, kZone);
  srs_fetch_add64(&live_blocks, 1);
  if (ledger != nullptr && ledger->count < Ledger::kMost) ledger->blocks[ledger->count++] = p;
  return p;
}

void release(void* p) {
  if (p == nullptr) return;
  if (!srs_heap_contains(p)) return std::free(p);  // from before the redirection, or of the C library itself
  Header const h = *header_of(p);
  Damage const found = damage_of(p);
  if (ledger != nullptr) {
    ledger->worst = std::max(ledger->worst, found);
    for (unsigned i = ledger->count; i-- > 0;) {
      if (ledger->blocks[i] != p) continue;
      ledger->blocks[i] = ledger->blocks[--ledger->count];
      break;
    }
  }
  // A second free, a pointer into a block, an overrun: the scope ends here, before any damage.
  if (found != Damage::kNone || h.mark != kLive) srs_crash_suppression_os(SRS_FAULT_POINTER);
  srs_store64(&header_of(p)->mark, kFreed);  // logged, as the filling is: an aborted call has freed nothing
  srs_memset(p, kFreedByte, std::min(h.size, kFillMost));
  srs_fetch_add64(&live_blocks, ~UINT64_C(0));
  srs_free(static_cast<char*>(p) - h.offset);
}

void* udf_malloc(size_t size) {
  return allocate(size, 16);
}
void* udf_calloc(size_t count, size_t size) {
  size_t total;
  if (__builtin_mul_overflow(count, size, &total)) {
    errno = ENOMEM;
    return nullptr;
  }
  void* const p = allocate(total, 16);
  if (p != nullptr) std::memset(p, 0, total);
  return p;
}
void* udf_realloc(void* old, size_t size) {
  if (old == nullptr) return allocate(size, 16);
  if (!srs_heap_contains(old)) return std::realloc(old, size);
  void* const p = allocate(size, 16);
  if (p == nullptr) return nullptr;
  if (header_of(old)->mark == kLive) std::memcpy(p, old, std::min<size_t>(size, header_of(old)->size));
  release(old);
  return p;
}
int udf_posix_memalign(void** to, size_t alignment, size_t size) {
  void* const p = allocate(size, std::max<size_t>(alignment, 16));
  if (p == nullptr) return ENOMEM;
  *to = p;
  return 0;
}
void* udf_aligned_alloc(size_t alignment, size_t size) {
  return allocate(size, std::max<size_t>(alignment, 16));
}
size_t udf_usable_size(void* p) {
  return p == nullptr ? 0 : header_of(p)->size;
}
char* udf_strndup(char const* text, size_t most) {
  size_t const n = strnlen(text, most);
  auto* const p = static_cast<char*>(allocate(n + 1, 16));
  if (p == nullptr) return nullptr;
  std::memcpy(p, text, n);
  p[n] = 0;
  return p;
}
char* udf_strdup(char const* text) {
  return udf_strndup(text, SIZE_MAX);
}
void* udf_new(size_t size) {
  void* const p = allocate(size, 16);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void* udf_new_aligned(size_t size, size_t alignment) {
  void* const p = allocate(size, std::max<size_t>(alignment, 16));
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void* udf_new_nothrow(size_t size, std::nothrow_t const&) {
  return allocate(size, 16);
}

template <class F>
void* address(F* f) {
  return reinterpret_cast<void*>(f);
}

struct Replacement {
  std::string_view symbol;
  void* function;
};

}  // namespace

void note_in(Ledger* to) {
  ledger = to;
}

Damage damage(Ledger const& of) {
  Damage worst = of.worst;
  for (unsigned i = 0; i < std::min(of.count, Ledger::kMost); ++i) worst = std::max(worst, damage_of(of.blocks[i]));
  return worst;
}

void* heap_function(char const* symbol) {
  // The names of operator new and delete: Itanium C++ ABI, with what follows in parentheses.
  static Replacement const table[] = {
      {"malloc", address(udf_malloc)},
      {"calloc", address(udf_calloc)},
      {"realloc", address(udf_realloc)},
      {"free", address(release)},
      {"posix_memalign", address(udf_posix_memalign)},
      {"aligned_alloc", address(udf_aligned_alloc)},
      {"memalign", address(udf_aligned_alloc)},
      {"malloc_usable_size", address(udf_usable_size)},
      {"strdup", address(udf_strdup)},
      {"__strdup", address(udf_strdup)},
      {"strndup", address(udf_strndup)},
      {"_Znwm", address(udf_new)},
      {"_Znam", address(udf_new)},
      {"_ZnwmRKSt9nothrow_t", address(udf_new_nothrow)},
      {"_ZnamRKSt9nothrow_t", address(udf_new_nothrow)},
      {"_ZnwmSt11align_val_t", address(udf_new_aligned)},
      {"_ZnamSt11align_val_t", address(udf_new_aligned)},
      {"_ZdlPv", address(release)},                 // (void*)
      {"_ZdaPv", address(release)},                 // [](void*)
      {"_ZdlPvm", address(release)},                // (void*, size)
      {"_ZdaPvm", address(release)},                // [](void*, size)
      {"_ZdlPvSt11align_val_t", address(release)},  // (void*, alignment)
      {"_ZdaPvSt11align_val_t", address(release)},
      {"_ZdlPvmSt11align_val_t", address(release)},
      {"_ZdaPvmSt11align_val_t", address(release)},
  };
  for (Replacement const& r : table) {
    if (r.symbol == symbol) return r.function;
  }
  return nullptr;
}

}  // namespace mysql_shim

// For tests: blocks that UDF libraries hold.
extern "C" SRS_API uint64_t mysql_shim_live_blocks() {
  return srs_load64(&mysql_shim::live_blocks);
}
