// Ranges whose every store is logged (srs_logged), and what each of their words must hold while no scope has it: a copy
// in this process, with the tag that the word had then. A word that differs from its copy under the same tag was
// changed by no logged store: a wild write. One whose tag has changed is somebody's by the log, and is copied again
// when its scope has ended and its value is final.
//
// Not seen: a wild write to a word of a live scope, or to one that was committed so recently that its log was not
// drained (the monitor has it drained every few milliseconds).
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/store/memory.hpp"
#include "runtime/store/types.hpp"

namespace vmsrs::store {

inline constexpr uint64_t kShadowMost = 64 << 20;  // bytes declared in all
inline constexpr size_t kWildTold = 32;            // told by address

// Whether nobody can be storing to a word without a record, and its value is final: now, when its scope has ended, or
// not before somebody logs a store of it.
enum class Settled : uint8_t { yes, later, no };

class Shadow {
 public:
  // `tag_of`: where the tag of the word at an address is. False: not in guest memory, or too much.
  bool add(Memory const& memory, uint64_t address, uint64_t size, std::function<uint64_t*(uint64_t)> const& tag_of);
  [[nodiscard]] bool empty() const { return parts_.empty(); }
  // The log has a record of this word: it is looked at again when the batch is done.
  void touched(uint64_t address) {
    if (part_of(address) != nullptr) touched_.push_back(address);
  }
  // Copies the touched words of which `settled(address, tag)` says so; keeps those that will be later.
  void renew(std::function<Settled(uint64_t, uint64_t)> const& settled);
  // Every word that differs; with `put_back`, memory gets what it must hold.
  Wild check(bool put_back);

 private:
  struct Part {
    uint64_t guest, words;
    uint64_t* memory;
    uint64_t* tags;
    std::vector<uint64_t> value, tag;
  };
  Part* part_of(uint64_t address);
  std::vector<Part> parts_;
  std::vector<uint64_t> touched_;
  uint64_t bytes_ = 0;
};

}  // namespace vmsrs::store
