#include "libsrs/src/guard.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "libsrs/src/locks.hpp"
#include "libsrs/src/monitored.hpp"

namespace srs::lib {

bool guard_used = false;
bool quarantine_used = false;

namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kRegion = UINT64_C(256) << 20;
constexpr uint32_t kPages = kRegion / kPage;
constexpr uint32_t kMostPages = 16;       // of one block: larger ones are ordinary
constexpr uint32_t kMostBlocks = 10'000;  // live at once: each splits the host's mapping twice
constexpr unsigned char kSlack = 0xa5;
constexpr uint64_t kFreed = UINT64_C(0xdfdfdfdfdfdfdfdf);  // as an address: not canonical
constexpr uint32_t kWaiting = 1 << 16;

// A lock of the whole process: a fault with it held ends the guest (abi.h, shared_locks).
class Held {
 public:
  explicit Held(std::atomic<uint32_t>& lock) : lock_(lock) {
    while (lock_.exchange(1, std::memory_order_acquire) != 0) __builtin_ia32_pause();
    shared_lock_held(1);
  }
  ~Held() {
    lock_.store(0, std::memory_order_release);
    shared_lock_held(-1);
  }
  Held(Held const&) = delete;
  Held& operator=(Held const&) = delete;

 private:
  std::atomic<uint32_t>& lock_;
};

enum class State : uint8_t { kNone, kLive, kEnded, kFree };
// Of the first page of each run [data pages][one inaccessible page].
struct Run {
  uint32_t size;  // the block's bytes
  uint16_t pages;
  State state;
  uint16_t offset;  // of the block in its first page
  uint32_t next;    // free runs of as many pages, oldest first
};

uint64_t region = 0;
Run* runs = nullptr;
uint32_t every = 0;
std::atomic<uint32_t> turn{0};
std::atomic<uint32_t> lock{0};
uint32_t fresh = 0;  // pages that no run has had
uint32_t live = 0;
struct Queue {
  uint32_t first, last;  // 1 + page; 0: none
};
Queue free_runs[kMostPages + 1];

void put(uint32_t page) {
  Queue& q = free_runs[runs[page].pages];
  runs[page].next = 0;
  if (q.last != 0) {
    runs[q.last - 1].next = page + 1;
  } else {
    q.first = page + 1;
  }
  q.last = page + 1;
}

// A run of so many pages, or kPages.
uint32_t take(uint32_t pages) {
  if (fresh + pages + 1 <= kPages) {
    uint32_t const page = fresh;
    fresh += pages + 1;
    return page;
  }
  Queue& q = free_runs[pages];
  if (q.first == 0) return kPages;
  uint32_t const page = q.first - 1;
  q.first = runs[page].next;
  if (q.first == 0) q.last = 0;
  return page;
}

uint64_t address_of(uint32_t page) {
  return region + uint64_t{page} * kPage;
}

// The first page of the run around an address of the region.
uint32_t run_of(uint64_t address) {
  auto page = static_cast<uint32_t>((address - region) / kPage);
  for (uint32_t i = 0; i <= kMostPages; ++i) {
    if (runs[page].state != State::kNone) return i <= runs[page].pages ? page : kPages;
    if (page == 0) break;
    --page;
  }
  return kPages;
}

uint32_t live_run(uint64_t address) {
  if ((address & 15) != 0) return kPages;
  uint32_t const page = run_of(address);
  return page != kPages && runs[page].state == State::kLive && address == address_of(page) + runs[page].offset ? page
                                                                                                               : kPages;
}

// ---- quarantine ----

struct Freed {
  void* block;
  size_t size;
};
Freed* waiting = nullptr;
uint64_t waiting_first = 0, waiting_end = 0, waiting_bytes = 0, waiting_most = 0;
std::atomic<uint32_t> waiting_lock{0};

void* pages(size_t size, int protection) {
  void* const p = mmap(nullptr, size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) die("no memory for SRS_HEAP");
  return p;
}

void tell_written(void const* block) {
  char text[96] = "the block at 0x";
  size_t n = strlen(text);
  for (int shift = 44; shift >= 0; shift -= 4)
    text[n++] = "0123456789abcdef"[reinterpret_cast<uint64_t>(block) >> shift & 15];
  strcpy(text + n, " was written to after it was freed");
  hypercall(SRS_HC_NOT_WHOLE, text);
}

bool pattern_whole(Freed const& f) {
  auto const* words = static_cast<uint64_t const*>(f.block);
  for (size_t i = 0; i < f.size / 8; ++i) {
    if (words[i] != kFreed) return false;
  }
  return true;
}

uint64_t number_after(char const** text, uint64_t otherwise) {
  if (**text != '=') return otherwise;
  char* end;
  uint64_t const value = strtoull(*text + 1, &end, 10);
  if (end == *text + 1 || value == 0) die("SRS_HEAP: a number from 1 is expected after =");
  *text = end;
  return value;
}

}  // namespace

void guard_choose() {
  char const* text = getenv("SRS_HEAP");
  if (text == nullptr || *text == '\0') return;
  while (*text != '\0') {
    if (strncmp(text, "guard", 5) == 0) {
      text += 5;
      every = static_cast<uint32_t>(number_after(&text, 1));
      region = reinterpret_cast<uint64_t>(pages(kRegion, PROT_NONE));
      madvise(reinterpret_cast<void*>(region), kRegion, MADV_NOHUGEPAGE);
      runs = static_cast<Run*>(pages(kPages * sizeof(Run), PROT_READ | PROT_WRITE));
      monitored_add(region, kRegion);
      guard_used = true;
    } else if (strncmp(text, "quarantine", 10) == 0) {
      text += 10;
      waiting_most = number_after(&text, 16) << 20;
      waiting = static_cast<Freed*>(pages(kWaiting * sizeof(Freed), PROT_READ | PROT_WRITE));
      quarantine_used = true;
    } else {
      die("SRS_HEAP names what there is not: guard[=N] or quarantine[=MiB], with a comma between");
    }
    if (*text == ',') ++text;
  }
}

void* guard_allocate(size_t size, size_t alignment) {
  if (size == 0) size = 1;
  if (alignment > kPage || size > kMostPages * kPage || turn.fetch_add(1, std::memory_order_relaxed) % every != 0)
    return nullptr;
  static std::atomic<bool> announced{false};
  if (!announced.exchange(true)) hypercall(SRS_HC_PROFILE, region, kRegion, "srs_malloc");
  Held const held(lock);
  if (live == kMostBlocks) return nullptr;
  auto const count = static_cast<uint32_t>((size + kPage - 1) / kPage);
  uint32_t const page = take(count);
  if (page == kPages) return nullptr;
  uint64_t const begin = address_of(page);
  if (mprotect(reinterpret_cast<void*>(begin), count * kPage, PROT_READ | PROT_WRITE) != 0) {
    runs[page] = {0, static_cast<uint16_t>(count), State::kFree, 0, 0};
    put(page);
    return nullptr;
  }
  uint64_t const end = begin + count * kPage;
  uint64_t const block = (end - size) & ~(static_cast<uint64_t>(alignment) - 1);
  memset(reinterpret_cast<void*>(block + size), kSlack, end - block - size);
  runs[page] = {static_cast<uint32_t>(size), static_cast<uint16_t>(count), State::kLive,
                static_cast<uint16_t>(block - begin), 0};
  ++live;
  return reinterpret_cast<void*>(block);
}

bool guard_contains(uint64_t address) {
  return address - region < kRegion;
}

bool guard_is_block(uint64_t address) {
  return live_run(address) != kPages;
}

bool guard_end_block(uint64_t address) {
  Held const held(lock);
  uint32_t const page = live_run(address);
  if (page == kPages) return false;
  runs[page].state = State::kEnded;
  return true;
}

size_t guard_block_size(uint64_t address) {
  return runs[run_of(address)].size;
}

Object guard_object(uint64_t address) {
  uint32_t const page = run_of(address);
  if (page == kPages || runs[page].state != State::kLive) return {0, 0};
  uint64_t const begin = address_of(page) + runs[page].offset;
  return address >= begin && address - begin <= runs[page].size ? Object{begin, runs[page].size} : Object{0, 0};
}

void guard_release(uint64_t address) {
  uint32_t const page = run_of(address);
  auto* const begin = reinterpret_cast<void*>(address_of(page));
  madvise(begin, runs[page].pages * kPage, MADV_DONTNEED);
  mprotect(begin, runs[page].pages * kPage, PROT_NONE);
  Held const held(lock);
  runs[page].state = State::kFree;
  --live;
  put(page);
}

bool guard_slack_whole(uint64_t address) {
  uint64_t const end = address_of(run_of(address)) + runs[run_of(address)].pages * kPage;
  for (uint64_t at = address + guard_block_size(address); at < end; ++at) {
    if (*reinterpret_cast<unsigned char const*>(at) != kSlack) return false;
  }
  return true;
}

void quarantine_take(void* block, size_t size, void (*release)(void*)) {
  for (size_t i = 0; i < size / 8; ++i) static_cast<uint64_t*>(block)[i] = kFreed;
  {
    Held const held(waiting_lock);
    waiting[waiting_end++ % kWaiting] = {block, size};
    waiting_bytes += size;
  }
  for (;;) {
    Freed oldest;
    {
      Held const held(waiting_lock);
      if (waiting_bytes <= waiting_most && waiting_end - waiting_first < kWaiting) return;
      oldest = waiting[waiting_first++ % kWaiting];
      waiting_bytes -= oldest.size;
    }
    if (!pattern_whole(oldest)) tell_written(oldest.block);
    release(oldest.block);
  }
}

}  // namespace srs::lib
