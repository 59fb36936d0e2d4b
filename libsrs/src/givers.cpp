#include "libsrs/src/givers.hpp"

#include <srs/abi.h>

#include <atomic>

namespace srs::lib {
namespace {

// Sets of four; an entry is one word, so that it is never seen half-written: 20 bits of the lock's hash over its owner.
constexpr unsigned kOwnerBits = 64 - SRS_TAG_OWNER_SHIFT;
constexpr unsigned kSets = 4096;
struct alignas(32) Set {
  std::atomic<uint64_t> entry[4];
};
Set sets[kSets];
std::atomic<uint32_t> victim{0};

struct Place {
  Set* set;
  uint64_t key;  // never 0
};
Place place_of(void const* lock) {
  uint64_t const hash = reinterpret_cast<uint64_t>(lock) / 8 * UINT64_C(0x9e3779b97f4a7c15);
  return {&sets[hash >> 52], (hash >> 32 & 0xfffff) | 1};
}

}  // namespace

void giver_set(void const* lock, uint64_t owner) {
  Place const place = place_of(lock);
  uint64_t const fresh = place.key << kOwnerBits | owner;
  for (std::atomic<uint64_t>& e : place.set->entry) {
    uint64_t const seen = e.load(std::memory_order_relaxed);
    if (seen == 0 || seen >> kOwnerBits == place.key) {
      e.store(fresh, std::memory_order_relaxed);
      return;
    }
  }
  place.set->entry[victim.fetch_add(1, std::memory_order_relaxed) & 3].store(fresh, std::memory_order_relaxed);
}

uint64_t giver_of(void const* lock) {
  Place const place = place_of(lock);
  for (std::atomic<uint64_t> const& e : place.set->entry) {
    uint64_t const seen = e.load(std::memory_order_relaxed);
    if (seen >> kOwnerBits == place.key) return seen & ((UINT64_C(1) << kOwnerBits) - 1);
  }
  return 0;
}

}  // namespace srs::lib
