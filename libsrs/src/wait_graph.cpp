// Who waits for whom. Edges are what threads publish: slot->waiting_for and the locks they hold. They are read while
// they change; a thread that holds on to locks looks again and again while it waits, so an edge seen late is only late.
#include "libsrs/src/locks.hpp"

namespace srs::lib {
namespace {

struct Search {
  Thread* self;
  uint64_t seen[SRS_MAX_SLOTS / 64];
};

bool holds(Thread const* t, uint64_t lock) {
  uint32_t const top = __atomic_load_n(&t->held_top, __ATOMIC_ACQUIRE);
  for (uint32_t i = 0; i < top && i < kMaxHeld; ++i) {
    if (t->held[i].address.load() == lock) return true;
  }
  return false;
}

bool only_holds_on_to(Thread const* t, uint64_t lock) {
  for (uint32_t i = 0; i < t->held_top; ++i) {
    if (t->held[i].address.load() == lock) return t->held[i].count == 0;
  }
  return false;
}

bool reaches_self(Search& search, uint64_t lock, unsigned steps) {
  uint32_t const top = slots_top;
  for (uint32_t i = 1; i < top && i < SRS_MAX_SLOTS; ++i) {
    Thread* const owner = threads[i];
    if (owner == nullptr || owner == search.self || !holds(owner, lock)) continue;
    uint64_t const bit = UINT64_C(1) << (i & 63);
    if ((search.seen[i / 64] & bit) != 0) continue;
    search.seen[i / 64] |= bit;
    uint64_t const wanted = __atomic_load_n(&owner->slot->waiting_for, __ATOMIC_SEQ_CST);
    if (wanted == 0) continue;
    if (only_holds_on_to(search.self, wanted)) return true;
    if (steps > 0 && reaches_self(search, wanted, steps - 1)) return true;
  }
  return false;
}

}  // namespace

bool locks_close_cycle(Thread* t, uint64_t lock) {
  Search search{t, {}};
  return reaches_self(search, lock, 64);
}

}  // namespace srs::lib
