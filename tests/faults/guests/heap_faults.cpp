// heap_faults WHAT: a request's mistakes with blocks of the heap, while others are served.
#include <new>
#include <set>

#include "tests/faults/guests/neighbours.hpp"

namespace {

constexpr unsigned kRounds = 20;
volatile char sink;

// With guard placement: the neighbour's block is never reached.
void overflow() {
  guest::Neighbours neighbours;
  auto* const before = static_cast<char*>(srs_calloc(1, 100));
  for (unsigned round = 0; round < kRounds; ++round) {
    size_t const size = 16 + round * 331;
    char* block = nullptr;
    CHECK_EQ(srs::request([&] {
               block = static_cast<char*>(srs_malloc(size));
               for (size_t i = 0; i < size + 64; ++i) block[i] = 'x';  // a plain loop over its end
             }),
             SRS_FAULTED);
    CHECK_EQ(guest::last_fault().kind, SRS_FAULT_STORE);
    uint64_t const at = guest::last_fault().address;
    CHECK(at >= reinterpret_cast<uint64_t>(block) + size && at < reinterpret_cast<uint64_t>(block) + size + 16);
    CHECK_EQ(srs::request([&] {
               block = static_cast<char*>(srs_malloc(size));
               sink = block[(size + 15) & ~size_t{15}];
             }),
             SRS_FAULTED);
    CHECK_EQ(guest::last_fault().kind, SRS_FAULT_LOAD);
  }
  for (unsigned i = 0; i < 100; ++i) CHECK_EQ(before[i], 0);
}

// By less than what alignment leaves: found when the block is freed.
void overflow_slack() {
  guest::Neighbours neighbours;
  for (unsigned round = 0; round < kRounds; ++round) {
    auto* const block = static_cast<char*>(srs_malloc(50));
    block[50] = 'x';
    CHECK_EQ(srs::request([&] { srs_free(block); }), SRS_FAULTED);
    CHECK_EQ(guest::last_fault().kind, SRS_FAULT_POINTER);
  }
}

void use_after_free(bool reads) {
  guest::Neighbours neighbours;
  std::set<void*> places;
  for (unsigned round = 0; round < kRounds; ++round) {
    auto* const block = static_cast<char*>(srs_malloc(200));
    places.insert(block);
    srs_free(block);
    // Scopes that lived at the free may still know the block.
    for (int i = 0; i < 1000; ++i) {
      usleep(1000);
      srs_free(srs_malloc(16));
      auto const status = srs::request([&] {
        if (reads) {
          sink = *block;
        } else {
          *block = 1;
        }
      });
      if (status == SRS_OK) continue;
      CHECK_EQ(guest::last_fault().kind, reads ? SRS_FAULT_LOAD : SRS_FAULT_STORE);
      CHECK_EQ(guest::last_fault().address, reinterpret_cast<uint64_t>(block));
      break;
    }
    CHECK_EQ(guest::last_fault().address, reinterpret_cast<uint64_t>(block));
  }
  CHECK_EQ(places.size(), kRounds);  // none was used again at once
}

struct Node {
  Node* next;
  long value;
};

// A freed block holds a pattern that is no address; and it does not come back for a while.
void quarantine() {
  guest::Neighbours neighbours;
  auto* const first = static_cast<Node*>(srs_malloc(sizeof(Node)));
  first->next = first;
  srs_free(first);
  for (int i = 0; i < 200; ++i) {
    usleep(200);
    void* const other = srs_malloc(sizeof(Node));
    CHECK(other != first);
    srs_free(other);
  }
  CHECK_EQ(srs::request([&] { sink = static_cast<char>(first->next->value); }), SRS_FAULTED);
  CHECK_EQ(guest::last_fault().kind, SRS_FAULT_NONCANONICAL);
  CHECK_EQ(srs::request([&] { srs_free(first); }), SRS_FAULTED);
  CHECK_EQ(guest::last_fault().kind, SRS_FAULT_POINTER);
  // Written to after it was freed: told when it comes back.
  first->value = 5;
  for (int i = 0; i < 3000; ++i) srs_free(srs_malloc(1024));
  for (int i = 0; i < 20; ++i) {
    usleep(1000);
    srs_free(srs_malloc(1024));
  }
}

// Two threads free one block: the second one's scope faults, and the first one's free counts.
void double_free() {
  guest::Neighbours neighbours;
  for (unsigned round = 0; round < kRounds; ++round) {
    void* const block = srs_malloc(64);
    CHECK_EQ(srs::request([&] { srs_free(block); }), SRS_OK);
    std::thread other([&] {
      CHECK_EQ(srs::request([&] { srs_free(block); }), SRS_FAULTED);
      CHECK_EQ(guest::last_fault().kind, SRS_FAULT_POINTER);
    });
    other.join();
    // An abort makes the free undone: the block is live, and may be freed once.
    void* const again = srs_malloc(64);
    CHECK_EQ(srs::request([&] {
               srs_free(again);
               srs_free(again);
             }),
             SRS_FAULTED);
    CHECK_EQ(srs::request([&] { srs_free(again); }), SRS_OK);
  }
}

// More than the scope may have: std::bad_alloc, which it may handle; else the scope is undone. Others allocate as ever.
void exhaustion() {
  guest::Neighbours neighbours;
  srs::options const limited{.user = 5, .memory_limit = 1 << 20};
  for (unsigned round = 0; round < kRounds; ++round) {
    uint64_t* const mine = neighbours.data() + 100;
    CHECK_EQ(srs::request(
                 [&] {
                   srs_store64(mine, 5);
                   std::vector<char, srs::allocator<char>> grows;
                   for (;;) grows.resize(grows.size() + 10'000);
                 },
                 limited),
             SRS_FAULTED);
    CHECK_EQ(guest::last_fault().kind, SRS_FAULT_EXCEPTION);
    CHECK_EQ(mine[0], 0);
    bool caught = false;
    CHECK_EQ(srs::request(
                 [&] {
                   try {
                     for (;;) (void)srs::allocator<char>().allocate(100'000);
                   } catch (std::bad_alloc const&) {
                     caught = true;
                   }
                   // An inner scope without a limit of its own has the outer one's.
                   CHECK_EQ(srs::request([] { CHECK(srs_malloc(100'000) == nullptr); }), SRS_OK);
                   guest::bad_store();  // what it took is freed
                 },
                 limited),
             SRS_FAULTED);
    CHECK(caught);
    CHECK_EQ(srs::request([] { srs_free(srs_malloc(2 << 20)); }), SRS_OK);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const what = argv[1];
  if (what == "overflow") overflow();
  if (what == "slack") overflow_slack();
  if (what == "read-freed") use_after_free(true);
  if (what == "write-freed") use_after_free(false);
  if (what == "quarantine") quarantine();
  if (what == "double-free") double_free();
  if (what == "exhaustion") exhaustion();
  return guest::end();
}
