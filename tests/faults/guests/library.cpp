// library WHAT: a request fails inside a library, while others are served.
#include <link.h>
#include <malloc.h>

#include "tests/faults/guests/neighbours.hpp"

namespace {

constexpr unsigned kRounds = 10;
char* volatile bad = reinterpret_cast<char*>(uint64_t{0x18});
volatile long sink;

int compare(void const*, void const*) {
  guest::bad_store();
  return 0;
}

// Where no lock of the whole process is held the scope is undone, and everybody goes on.
void landed(std::string const& what) {
  guest::Neighbours neighbours;
  uint64_t* const mine = neighbours.data() + 100;
  for (unsigned round = 0; round < kRounds; ++round) {
    char text[64];
    CHECK_EQ(srs::request([&] {
               for (unsigned i = 0; i < 40; ++i) srs_store64(&mine[i], 5);
               if (what == "memcpy-srs") srs_memcpy(&mine[3], bad, 200);
               if (what == "memcpy") memcpy(bad, &mine[3], static_cast<size_t>(sink) + 200);
               if (what == "memcpy-from") memcpy(text, bad, static_cast<size_t>(sink) + 50);
               if (what == "strlen") sink = static_cast<long>(strlen(bad));
               if (what == "snprintf") snprintf(text, sizeof text, "%s", bad);
               if (what == "qsort") qsort(mine, 40, 8, compare);
               if (what == "free-twice") {  // of the C library's heap, which notices
                 char* volatile block = static_cast<char*>(malloc(100));
                 free(block);
                 free(block);
               }
               fprintf(stderr, "still here\n");
             }),
             SRS_FAULTED);
    for (unsigned i = 0; i < 40; ++i) CHECK_EQ(mine[i], 0);
    // The C library works for this thread, and (the neighbours' words come and go) for the others.
    free(malloc(100));
    CHECK_EQ(snprintf(text, sizeof text, "%d", 12), 2);
  }
}

// A lock that everybody needs is held: the process ends at once, rather than everybody waiting for it for ever.
void escalates(std::string const& what) {
  guest::Neighbours neighbours;
  (void)srs::request([&] {
    if (what == "printf") printf("%s", bad);
    if (what == "loader") {
      dl_iterate_phdr(
          [](dl_phdr_info*, size_t, void*) {
            guest::bad_store();
            return 0;
          },
          nullptr);
    }
    if (what == "malloc") {  // the heap's own words are overwritten: it faults with its lock held, or notices
      char* blocks[64];
      for (char*& block : blocks) block = static_cast<char*>(malloc(2000));
      for (unsigned i = 0; i < 64; i += 2) free(blocks[i]);
      for (unsigned i = 0; i < 64; i += 2) memset(blocks[i], 0x18, 64);
      for (unsigned i = 0; i < 64; ++i) sink = reinterpret_cast<long>(malloc(1500 + i * 16));
    }
    if (what == "heap") {  // as if inside the monitored heap, whose own words no program reaches by chance
      srs_thread_.slot->shared_locks = 1;
      guest::bad_store();
    }
  });
  fprintf(stderr, "still here\n");
  sleep(20);  // the others wait for the lock
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::string const what = argv[2];
  argv[1] == std::string("lands") ? landed(what) : escalates(what);
  return guest::end();
}
