// What StoreClient and the store process say to each other: one request, then its answer. Both are the same program,
// so there is no version; but the process checks every number it is sent, as it would a stranger's.
#pragma once

#include <cstdint>
#include <vector>

namespace vmsrs::store::wire {

enum class Kind : uint32_t {
  attach = 1,  // index, slot address, ring address, records, key
  detach,      // index
  drain,       // index
  drain_all,
  pages_of,      // owner
  abort,         // owner, restore
  restore_page,  // page, reason, word
  sweep,
  store_word,   // slot, address, mask, value
  fetch_op,     // slot, address, op, operand, width, expected
  note,         // slot, what, a, b
  range_begin,  // slot, address, size
  range_done,   // slot, written
  shadow_add,   // address, size, strict
  shadow_renew,
  shadow_check,
  take_freed,
  live_scopes,
  stats,
  save,    // the answer is Store::save()'s words, as a list
  more,    // the next part of the last answer
  nothing  // for measuring the round trip
};

struct Request {
  Kind kind;
  uint32_t unused;
  uint64_t v[6];
};

// Words of an answer sent at once; the rest is fetched with `more`.
constexpr uint64_t kWordsPerPart = 4096;

struct Header {
  uint32_t code;   // store::Code; not ok: the words are the message's bytes
  uint32_t words;  // in this part
  uint64_t left;   // words that `more` will give
};

struct Answer {
  Header header;
  uint64_t words[kWordsPerPart];
};

}  // namespace vmsrs::store::wire
