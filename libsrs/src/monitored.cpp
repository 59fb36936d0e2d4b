// Plain stores of instrumented code (libsrs/compiler/): they are logged before they are made.
//
// The log's steps are those of srs_store64, but for the last: the store itself is the program's next instruction. The
// claim is given back before it, with the word's present value announced: to the host the store looks done. An undo of
// somebody else's store below leaves memory alone then, as the store above is about to overwrite it anyway.
#include "libsrs/src/monitored.hpp"

#include <srs/instrument.h>
#include <srs/log.h>
#include <unistd.h>

#include <atomic>

#include "libsrs/src/store.hpp"

extern "C" {
uint32_t srs_monitor_ = 0;
}

namespace srs::lib {

namespace {

struct Range {
  uint64_t begin;
  uint64_t size;
};
constexpr uint32_t kMaxRanges = 8192;
Range ranges[kMaxRanges];
std::atomic<uint32_t> range_count{0};
std::atomic<uint32_t> range_lock{0};
__thread uint32_t last_hit __attribute__((tls_model("initial-exec")));

Range const* range_of(uint64_t address) {
  uint32_t const n = range_count.load(std::memory_order_acquire);
  uint32_t const hit = last_hit;
  if (hit < n && address - ranges[hit].begin < ranges[hit].size) return &ranges[hit];
  for (uint32_t i = n; i-- > 0;) {
    if (address - ranges[i].begin >= ranges[i].size) continue;
    last_hit = i;
    return &ranges[i];
  }
  return nullptr;
}

// What the scope itself allocated, under the owner that it still has, the abort frees whatever it holds; and nobody
// else knows the block yet, as whoever gives a lock up has a new owner (`release`) or does not really (`hold`).
bool in_fresh_block(Thread const* t, uint64_t address, uint64_t size) {
  if (t->fresh_owner != t->slot->owner || t->slot->depth == 0) return false;
  for (Fresh const& f : t->fresh) {
    if (address - f.begin >= f.size) continue;
    if (t->slot->scopes[t->slot->depth - 1].isolation == SRS_TRACK) return false;
    fresh_block_set(t, f);
    return size <= f.size - (address - f.begin);
  }
  return false;
}

// Nothing changes memory here: the word's value is what it is.
void log_before(Thread* t, uint64_t word, uint64_t mask) {
  auto* const at = reinterpret_cast<uint64_t*>(word);
  srs_slot* const slot = t->slot;
  if (!srs_process_.strict) {
    uint64_t* const tag = tag_of(word);
    for (;;) {
      int const result = srs_log_store(slot, tag, at, mask, __atomic_load_n(at, __ATOMIC_RELAXED));
      if (result == SRS_LOG_OWNED) return;
      if (result == SRS_LOG_DONE) {
        srs_log_end(slot);
        return;
      }
      if (result == SRS_LOG_NESTED) break;
      hypercall(SRS_HC_DRAIN);
    }
  }
  t->called = t->called + 1;
  hypercall(SRS_HC_STORE, word, __atomic_load_n(at, __ATOMIC_RELAXED), mask);
}

// The first word from `word` on that is not owned as a whole, or of the last few before `end`: four at a time.
uint64_t skip_owned(uint64_t word, uint64_t end) {
  if (srs_process_.strict) return word;
  uint64_t const key = srs_thread_.key;
  auto const* tag = reinterpret_cast<uint64_t const volatile*>(tag_of(word));
  for (; end - word >= 32; word += 32, tag += 4) {
    uint64_t const other = (tag[0] ^ key) | (tag[1] ^ key) | (tag[2] ^ key) | (tag[3] ^ key);
    if ((other & (~UINT64_C(0) << SRS_TAG_OWNER_SHIFT | 0xff)) != 0) break;
  }
  return word;
}

bool equal(char const* a, char const* b, unsigned size) {
  for (unsigned i = 0; i < size; ++i) {
    if (a[i] != b[i]) return false;
  }
  return b[size] == '\0';
}

// getenv() without the C library: this file must do without vector registers, and runs before main.
char const* environment(char const* name) {
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) {
    unsigned n = 0;
    while ((*e)[n] != '\0' && (*e)[n] != '=') ++n;
    if ((*e)[n] == '=' && equal(*e, name, n)) return *e + n + 1;
  }
  return nullptr;
}

}  // namespace

void monitored_add(uint64_t begin, uint64_t size) {
  uint32_t idle = 0;
  while (!range_lock.compare_exchange_weak(idle, 1)) idle = 0;
  uint32_t const n = range_count.load(std::memory_order_relaxed);
  bool known = false;
  for (uint32_t i = 0; i < n && !known; ++i) known = ranges[i].begin == begin && ranges[i].size == size;
  if (!known && n < kMaxRanges) {
    ranges[n] = {begin, size};
    range_count.store(n + 1, std::memory_order_release);
  }
  range_lock = 0;
}

void monitored_choose() {
  char const* text = environment("SRS_MONITOR");
  if (text == nullptr) text = "heap,globals";
  uint32_t chosen = 0;
  while (*text != '\0') {
    unsigned n = 0;
    while (text[n] != '\0' && text[n] != ',') ++n;
    if (equal(text, "heap", n)) {
      chosen |= SRS_MONITOR_HEAP;
    } else if (equal(text, "globals", n)) {
      chosen |= SRS_MONITOR_GLOBALS;
    } else if (!equal(text, "none", n) && n != 0) {
      die("SRS_MONITOR names what there is not: heap, globals or none, with commas between");
    }
    text += text[n] == ',' ? n + 1 : n;
  }
  srs_monitor_ = chosen;
}

}  // namespace srs::lib

using namespace srs::lib;

extern "C" int srs_watched_(void const* address) {
  auto const at = reinterpret_cast<uint64_t>(address);
  return srs_monitor_ != 0 && at - srs_thread_.stack_low >= srs_thread_.stack_size && range_of(at) != nullptr;
}

extern "C" void srs_will_store_(uint64_t address, uint64_t size) {
  if (srs_monitor_ == 0 || restricted()) return;
  while (size > 0) {
    Thread* const t = thread();
    if (t == nullptr || in_fresh_block(t, address, size)) return;
    Range const* const range = range_of(address);
    if (range == nullptr) return;
    uint64_t const left = range->begin + range->size - address;
    uint64_t const end = address + (size < left ? size : left);
    for (uint64_t word = address & ~UINT64_C(7); word < end; word += 8) {
      if (word >= address) word = skip_owned(word, end);
      if (word >= end) break;
      uint64_t mask = 0xff;
      if (word < address) mask &= UINT64_C(0xff) << (address - word);
      if (end - word < 8) mask &= UINT64_C(0xff) >> (8 - (end - word));
      log_before(t, word, mask);
    }
    size -= end - address;
    address = end;
  }
}
