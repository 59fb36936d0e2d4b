// Runs each form in a request scope and compares, byte by byte, what changed in monitored memory with what the log has:
// each changed byte must have a record, whose old value is what the byte was, or lie in a block that the scope itself
// allocated (which is freed, whatever it holds). Prints a line for each form, and exits
// with 1 if a byte was not logged. Compiled without instrumentation, and allocates nothing: it is the host.
#include <srs/instrument.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "libsrs/src/arena.hpp"
#include "libsrs/src/hypercall.hpp"
#include "tests/unit/store_forms/forms.hpp"

namespace {

constexpr uint64_t kRing = 4096;
constexpr uint64_t kTagMask = (UINT64_C(1) << 36) - 1;

void* pages(size_t size) {
  void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) abort();
  return p;
}

// ---- what was logged: old values and bytes by word ----
struct Logged {
  uint64_t word;  // 0: free
  uint64_t mask;
  uint64_t exact;  // bytes of which `old` has the value before the scope
  uint64_t old;
};
constexpr size_t kWords = 1 << 20;
Logged* logged;
bool recording = false;
struct Block {
  uint64_t begin;
  uint64_t size;
};
Block fresh[4096];  // what the scope allocated: the abort frees it, whatever it holds
unsigned fresh_count = 0;
bool is_fresh(uint64_t address) {
  for (unsigned i = 0; i < fresh_count; ++i) {
    if (address - fresh[i].begin < fresh[i].size) return true;
  }
  return false;
}
uint64_t damaged = 0;

Logged& entry(uint64_t word) {
  size_t i = (word >> 3) * UINT64_C(0x9e3779b97f4a7c15) >> 44;
  while (logged[i].word != 0 && logged[i].word != word) i = (i + 1) & (kWords - 1);
  return logged[i];
}

void take(srs_record const& r) {
  uint64_t const kind = srs_record_kind_of(r.what);
  if (recording && kind == SRS_REC_ALLOC && fresh_count < 4096) fresh[fresh_count++] = {srs_record_addr(r.what), r.a};
  if (!recording || (kind != SRS_REC_STORE && kind != SRS_REC_DELTA)) return;
  uint64_t const mask = srs_record_mask(r.what);
  Logged& e = entry(srs_record_addr(r.what));
  e.word = srs_record_addr(r.what);
  for (unsigned i = 0; i < 8; ++i) {
    if ((mask >> i & 1) == 0 || (e.mask >> i & 1) != 0) continue;
    uint64_t const byte = UINT64_C(0xff) << 8 * i;
    e.mask |= UINT64_C(1) << i;
    if (kind == SRS_REC_DELTA) continue;
    e.exact |= UINT64_C(1) << i;
    e.old = (e.old & ~byte) | (r.a & byte);
  }
}

// ---- the host ----
srs_slot* slots;
void drain() {
  srs_slot* const slot = srs_thread_.slot;
  auto const* ring = reinterpret_cast<srs_record const*>(slot->ring);
  for (uint64_t i = slot->tail; i < slot->head; ++i) {
    srs_record const& r = ring[i & (kRing - 1)];
    if (r.check != srs_record_check(&r, slot->key, i)) damaged++;
    take(r);
  }
  slot->tail = slot->head;
}

// ---- memory to compare: what libsrs names to the host ----
struct Range {
  char* begin;
  size_t size;
  char* copy;
};
Range ranges[256];
unsigned range_count = 0;

}  // namespace

extern "C" long srs_hypercall_(long number, uint64_t a, uint64_t b, uint64_t, uint64_t) {
  switch (number) {
    case SRS_HC_ATTACH: {
      auto* const attach = reinterpret_cast<srs_attach*>(a);
      slots = static_cast<srs_slot*>(pages(SRS_MAX_SLOTS * sizeof(srs_slot)));
      logged = static_cast<Logged*>(pages(kWords * sizeof(Logged)));
      attach->tag_base = reinterpret_cast<uint64_t>(pages(kTagMask + 1));
      attach->address_mask = kTagMask;
      attach->slots = reinterpret_cast<uint64_t>(slots);
      return 0;
    }
    case SRS_HC_THREAD:
      slots[1].index = 1;
      slots[1].ring = reinterpret_cast<uint64_t>(pages(kRing * sizeof(srs_record)));
      slots[1].ring_records = kRing;
      slots[1].key = 0x5eed;
      return reinterpret_cast<long>(&slots[1]);
    case SRS_HC_DRAIN:
      drain();
      return 0;
    case SRS_HC_PROFILE:
      if (range_count < 256) ranges[range_count++] = {reinterpret_cast<char*>(a), b, nullptr};
      return 0;
    default:
      return 0;
  }
}

namespace {

struct Result {
  unsigned changed, unlogged, wrong, fresh;
};
struct Run {
  Form const* form;
  State* state;
  Result result;
};

void snapshot() {
  for (unsigned i = 0; i < range_count; ++i) {
    Range& r = ranges[i];
    if (r.copy == nullptr) r.copy = static_cast<char*>(pages(r.size));
    memcpy(r.copy, r.begin, r.size);
  }
}

// A block of the heap, or a variable of forms.cpp: the rest is the allocator's and the C library's.
bool of_the_program(char const* at) {
  if (at >= globals_begin() && at < globals_begin() + globals_size()) return true;
  return srs_heap_contains(at) != 0 && srs::lib::arena_object(reinterpret_cast<uint64_t>(at)).size != 0;
}

void compare(Result& result) {
  for (unsigned i = 0; i < range_count; ++i) {
    Range const& r = ranges[i];
    if (r.copy == nullptr) continue;  // a chunk that the form itself made: there was nothing to lose
    for (size_t at = 0; at < r.size; at += 8) {
      if (memcmp(r.begin + at, r.copy + at, 8) == 0 || !of_the_program(r.begin + at)) continue;
      Logged const& e = entry(reinterpret_cast<uint64_t>(r.begin + at));
      for (unsigned k = 0; k < 8; ++k) {
        if (r.begin[at + k] == r.copy[at + k]) continue;
        result.changed++;
        bool const missing = (e.mask >> k & 1) == 0;
        bool const wrong = !missing && (e.exact >> k & 1) != 0 && static_cast<char>(e.old >> 8 * k) != r.copy[at + k];
        if (!missing && !wrong) continue;
        (is_fresh(reinterpret_cast<uint64_t>(r.begin + at)) ? result.fresh
         : missing                                          ? result.unlogged
                                                            : result.wrong)++;
      }
    }
  }
}

void run(void* raw) {
  auto* const r = static_cast<Run*>(raw);
  drain();
  recording = true;
  r->form->run(*r->state);
  drain();
  recording = false;
  compare(r->result);
}

}  // namespace

int main(int argc, char** argv) {
  srs_profile(globals_begin(), globals_size(), "forms");
  unsigned failed = 0;
  for (unsigned i = 0; i < kFormCount; ++i) {
    if (argc > 1 && strcmp(argv[1], kForms[i].name) != 0) continue;
    Run r{&kForms[i], new_state(), {}};
    if (r.form->prepare != nullptr) r.form->prepare(*r.state);
    fresh_count = 0;
    memset(logged, 0, kWords * sizeof(Logged));
    snapshot();
    if (srs_request(run, &r, nullptr) != SRS_OK) return 2;
    bool const bad = r.result.changed == 0 || r.result.unlogged != 0 || r.result.wrong != 0;
    failed += bad ? 1 : 0;
    printf("%-20s %s changed %u unlogged %u wrong %u; not needed in fresh blocks %u\n", r.form->name,
           bad ? "FAILED" : "ok", r.result.changed, r.result.unlogged, r.result.wrong, r.result.fresh);
  }
  printf("%u of %u forms failed, %lu damaged records\n", failed, kFormCount, damaged);
  return failed != 0 || damaged != 0 ? 1 : 0;
}
