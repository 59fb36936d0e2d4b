// wild WHAT: a request writes past the log into what is others', and then crashes.
#include <semaphore.h>

#include "tests/faults/guests/neighbours.hpp"

namespace {

constexpr unsigned kWords = 4096, kRounds = 20;
uint64_t accounts[kWords] __attribute__((aligned(4096)));

void fill() {
  for (unsigned i = 0; i < kWords; ++i) srs_store64(&accounts[i], 5000 + i);
  CHECK_EQ(srs_logged(accounts, sizeof accounts), 0);
}

void check_all(unsigned except = kWords) {
  for (unsigned i = 0; i < kWords; ++i) {
    if (i != except) CHECK_EQ(accounts[i], 5000 + i);
  }
}

// By plain stores, memset, and a system call of a thread that names no scope's memory.
void undone() {
  guest::Neighbours neighbours;
  fill();
  for (unsigned round = 0; round < kRounds; ++round) {
    CHECK_EQ(srs::request([&] {
               srs_store64(&accounts[7], 1);  // its own, logged
               for (unsigned i = 0; i < 10; ++i) *const_cast<uint64_t volatile*>(&accounts[100 + i * 300]) = 666;
               memset(&accounts[2000], 0xee, 800);
               guest::bad_store();
             }),
             SRS_FAULTED);
    check_all();
  }
}

// What scopes commit is what is put back, also when it is some milliseconds old.
void after_commits() {
  guest::Neighbours neighbours;
  fill();
  for (unsigned round = 0; round < kRounds; ++round) {
    CHECK_EQ(srs::request([&] {
               for (unsigned i = 0; i < 64; ++i) srs_store64(&accounts[i], 9000 + round);
             }),
             SRS_OK);
    usleep(50'000);  // the monitor takes the log
    std::thread other([&] {
      CHECK_EQ(srs::request([&] {
                 *const_cast<uint64_t volatile*>(&accounts[10]) = 666;
                 guest::bad_store();
               }),
               SRS_FAULTED);
    });
    other.join();
    for (unsigned i = 0; i < 64; ++i) CHECK_EQ(accounts[i], 9000 + round);
  }
}

// Others store by the log all the while: nothing of theirs is taken for a wild write.
void among_writers() {
  fill();
  std::atomic<bool> over{false};
  std::vector<std::thread> writers;
  constexpr unsigned kWriters = 3;
  for (unsigned n = 0; n < kWriters; ++n) {
    writers.emplace_back([&, n] {
      uint64_t made = 0;
      while (!over) {
        CHECK_EQ(srs::request([&] {
                   for (unsigned i = n; i < 1024; i += kWriters)
                     srs_store64(&accounts[i], srs_load64(&accounts[i]) + 1);
                   srs_store64(&accounts[n], srs_load64(&accounts[n]) + 1);  // a repeat, which is not logged
                 }),
                 SRS_OK);
        made += 1;
        // A store outside scopes, and its repeat.
        srs_store64(&accounts[1024 + n], made);
        srs_store64(&accounts[1024 + n], made + 1);
      }
      for (unsigned i = n; i < 1024; i += kWriters) CHECK_EQ(accounts[i], 5000 + i + made * (i == n ? 2 : 1));
      CHECK_EQ(accounts[1024 + n], made + 1);
    });
  }
  for (unsigned round = 0; round < 200; ++round) {
    CHECK_EQ(srs::request([&] {
               *const_cast<uint64_t volatile*>(&accounts[3000 + round]) = 666;
               guest::bad_store();
             }),
             SRS_FAULTED);
    CHECK_EQ(accounts[3000 + round], 5000 + 3000 + round);
  }
  over = true;
  for (std::thread& writer : writers) writer.join();
}

// No fault follows: found at the end, and said.
void unexplained() {
  fill();
  CHECK_EQ(srs::request([] { *const_cast<uint64_t volatile*>(&accounts[5]) = 666; }), SRS_OK);
  CHECK_EQ(accounts[5], 666);
}

// For a measurement: what so many MiB of logged ranges cost a fault.
void cost(size_t mib) {
  auto* const range = static_cast<uint64_t*>(srs_aligned_alloc(4096, mib << 20));
  memset(range, 1, mib << 20);
  CHECK_EQ(srs_logged(range, mib << 20), 0);
  for (unsigned round = 0; round < kRounds; ++round) CHECK_EQ(srs::request([] { guest::bad_store(); }), SRS_FAULTED);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::string const what = argv[1];
  if (what == "undone") undone();
  if (what == "commits") after_commits();
  if (what == "writers") among_writers();
  if (what == "unexplained") unexplained();
  if (what.starts_with("cost=")) cost(std::stoul(what.substr(5)));
  return guest::end();
}
