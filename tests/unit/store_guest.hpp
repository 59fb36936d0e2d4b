// Guest memory for the store's tests: a memfd with words, their tags, slots and rings, whose guest addresses are those
// of this process; and threads of a guest that store there through srs/log.h.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "runtime/store/store.hpp"
#include "srs/log.h"

namespace vmsrs::store::test {

inline uint64_t address(void const* p) {
  return reinterpret_cast<uint64_t>(p);
}

class Guest {
 public:
  static constexpr uint64_t kWords = 1 << 16;  // 512 KiB
  static constexpr uint64_t kSlots = 8;
  static constexpr uint64_t kRing = 1 << 12;

  Guest() {
    // The address mask must see offsets: words at a multiple of their size.
    fd_ = memfd_create("guest", MFD_CLOEXEC);
    if (fd_ < 0 || ftruncate(fd_, static_cast<off_t>(size())) != 0) std::abort();
    auto* const room = static_cast<char*>(
        mmap(nullptr, size() + bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    base_ = reinterpret_cast<char*>((address(room) + bytes() - 1) & ~(bytes() - 1));
    if (mmap(base_, size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_, 0) == MAP_FAILED) std::abort();
    room_ = room;
    for (uint64_t i = 1; i < kSlots; ++i) {
      srs_slot& s = slot(i);
      s.index = i;
      s.ring = address(ring(i));
      s.ring_records = kRing;
      s.key = 0x1234567 * i;
      s.owner = srs_owner(i, 0);
      s.next_number = 1;
    }
  }
  ~Guest() {
    munmap(room_, size() + bytes());
    close(fd_);
  }
  Guest(Guest const&) = delete;
  Guest& operator=(Guest const&) = delete;

  uint64_t* words() { return reinterpret_cast<uint64_t*>(base_); }
  uint64_t* tags() { return words() + kWords; }
  uint64_t* tag(uint64_t const* word) { return tags() + (word - words()); }
  srs_slot& slot(uint64_t i) { return reinterpret_cast<srs_slot*>(tags() + kWords)[i]; }
  srs_record* ring(uint64_t i) { return reinterpret_cast<srs_record*>(&slot(kSlots)) + i * kRing; }
  int fd() const { return fd_; }
  uint64_t base() const { return address(base_); }
  static constexpr uint64_t bytes() { return kWords * 8; }
  static constexpr uint64_t size() {
    return 2 * bytes() + kSlots * sizeof(srs_slot) + kSlots * kRing * sizeof(srs_record);
  }

  Config config() {
    Config c;
    c.tag_base = address(tags());
    c.address_mask = bytes() - 1;
    return c;
  }
  Memory memory() {
    Memory m;
    m.add({base(), size(), base_});
    return m;
  }
  SlotConfig slot_config(uint64_t i) { return {i, address(&slot(i)), address(ring(i)), kRing, slot(i).key}; }

  // Guest code. Aborts the test on a full ring: these are for short sequences.
  uint64_t begin(uint64_t i) {
    uint64_t const outer = slot(i).owner;
    must(srs_log_begin(&slot(i), 0));
    return outer;
  }
  void commit(uint64_t i, uint64_t outer) { must(srs_log_commit(&slot(i), outer)); }
  void store(uint64_t i, uint64_t* word, uint64_t value, uint64_t mask = 0xff) {
    int const result = srs_log_store(&slot(i), tag(word), word, mask, value);
    if (result != SRS_LOG_OWNED) must(result);
    srs_store_step(&slot(i), word, mask, value);
  }
  void note(uint64_t i, srs_record_kind kind, uint64_t at, uint64_t a, uint64_t b = 0) {
    must(srs_log_note(&slot(i), kind, at, a, b));
  }

 private:
  static void must(int result) {
    if (result != SRS_LOG_DONE) std::abort();
  }

  int fd_ = -1;
  char* base_ = nullptr;
  void* room_ = nullptr;
};

}  // namespace vmsrs::store::test
