#include "runtime/rescue/held_locks.hpp"

#include <algorithm>
#include <vector>

#include "vmm/address_space.hpp"

namespace vmsrs::runtime {
namespace {

// Who has a lock: as its own words tell it.
enum class Owner { kThisThread, kSomebodyElse, kNobody, kUnclear };

// glibc's struct __pthread_mutex_s (bits/struct_mutex.h) and struct __pthread_rwlock_arch_t.
Owner owner_of(vmm::Thread& thread, srs_rescue_hold const& lock) {
  struct {
    int32_t word, count, owner;
  } mutex{};
  if (lock.kind == SRS_RESCUE_MUTEX) {
    if (!thread.memory().read(vmm::GuestAddr(lock.lock), mutex))
      return Owner::kNobody;  // the fault is this very access
    if (mutex.owner == thread.tid()) return Owner::kThisThread;
    if (mutex.owner != 0) return Owner::kSomebodyElse;
    return mutex.word == 0 ? Owner::kNobody : Owner::kUnclear;
  }
  int32_t words[8] = {};
  uint64_t const size = lock.kind == SRS_RESCUE_SPIN ? 4 : sizeof words;
  if (!thread.memory().read(vmm::GuestAddr(lock.lock), words, size)) return Owner::kNobody;
  if (lock.kind == SRS_RESCUE_WRITE) {
    if (words[6] == thread.tid()) return Owner::kThisThread;
    if (words[6] != 0) return Owner::kSomebodyElse;
  }
  return std::ranges::all_of(words, [](int32_t w) { return w == 0; }) ? Owner::kNobody : Owner::kUnclear;
}

}  // namespace

HeldLocks held_locks(vmm::Thread& thread, LandingPad const& pad) {
  HeldLocks result;
  if (!pad.holds()) return result;  // it has never taken a lock
  auto* const holds = reinterpret_cast<srs_rescue_holds*>(thread.memory().alias(pad.holds()));
  thread.memory().mark_written(pad.holds(), sizeof *holds);
  auto const doubt = [&](char const* why) {
    result.doubt = why;
    return result;
  };
  if (holds->lost != 0 || holds->count > SRS_RESCUE_HOLDS) return doubt("it holds more locks than can be noted");
  if (holds->step != SRS_RESCUE_NOTHING) {
    srs_rescue_hold lock = holds->now;
    uint64_t entry = holds->count;
    for (uint64_t i = 0; i < holds->count; ++i) {
      if (holds->held[i].lock == lock.lock) entry = i;
    }
    bool const listed = entry < holds->count;
    if (lock.kind == 0) {
      if (!listed) return doubt("it was giving back a lock that it had not been seen to take");
      lock.kind = holds->held[entry].kind;
    }
    Owner const owner = owner_of(thread, lock);
    if (owner == Owner::kUnclear || (holds->step == SRS_RESCUE_LOCKING && listed))
      return doubt("it was in the middle of taking or giving back a lock");
    bool const has = owner == Owner::kThisThread;
    if (has && !listed) {
      if (holds->count == SRS_RESCUE_HOLDS) return doubt("it holds more locks than can be noted");
      holds->held[holds->count++] = lock;
    }
    if (!has && listed) {
      if (entry + 1 != holds->count) return doubt("it was in the middle of giving back a lock");
      --holds->count;
    }
    holds->step = SRS_RESCUE_NOTHING;
  }
  // What it held at the read it must still hold there; the rest goes.
  std::vector<srs_rescue_hold> kept = pad.held_at_read();
  for (uint64_t i = 0; i < holds->count; ++i) {
    auto const same = std::ranges::find(kept, holds->held[i].lock, &srs_rescue_hold::lock);
    if (same != kept.end()) {
      kept.erase(same);
      continue;
    }
    result.release |= uint64_t{1} << i;
    ++result.count;
  }
  if (!kept.empty()) return doubt("it has given back a lock that it held at its read");
  return result;
}

}  // namespace vmsrs::runtime
