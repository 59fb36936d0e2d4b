// links: srs_hosted
// Aborts from outside (deadlines) strike at any instruction, also within the library: nothing is lost or left behind.
#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <mutex>
#include <srs/srs.hpp>
#include <thread>

#include "tests/unit/srs_fake_host.hpp"

namespace {

constexpr unsigned kWords = 64;
constexpr int kThreads = 3;

std::mutex locks[3];
srs::shared<uint64_t> total;  // only ever added to

struct Worker {
  uint64_t words[kWords] = {};
  unsigned char bytes[128] = {};
  uint64_t* block = nullptr;
  uint64_t committed = 0;
  uint64_t faulted = 0;
  uint64_t wrong = 0;
  uint64_t random = 1;

  uint64_t next() { return random = random * 6364136223846793005u + 1442695040888963407u; }

  void scope(uint64_t seed) {
    for (unsigned i = 0; i < 40; ++i) {
      uint64_t const r = seed >> (i % 13);
      srs_store64(&words[(r + i) % kWords], seed + i);
      srs_store8(&bytes[(r * 7 + i) % 120], static_cast<uint8_t>(i));
      srs_memmove(bytes + (r % 30), bytes + (i % 40), 33);
      srs_exchange64(&words[i % kWords], i);
      srs_fetch_add32(&words[(i + 7) % kWords], 5);
    }
    total += 1;
    {
      std::lock_guard const hold(locks[seed % 3]);
      srs_store64(&words[seed % kWords], 1);
    }
    (void)srs::request([&] {
      std::lock_guard const hold(locks[(seed + 1) % 3]);
      srs_store64(&words[3], seed);
      srs_free(srs_malloc(200));
    });
    auto* fresh = static_cast<uint64_t*>(srs_malloc(64));
    srs_store64(&fresh[0], seed);
    srs_free(block);
    srs_store64(&block, reinterpret_cast<uint64_t>(fresh));
    total += 1;
  }

  void run() {
    fake::install_handlers(true);
    block = static_cast<uint64_t*>(srs_malloc(64));
    // A clock of its own strikes this thread every 37 to 137 microseconds.
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR1;
    event._sigev_un._tid = gettid();
    timer_t timer;
    ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    long const every = 37000 + static_cast<long>(next() >> 40) % 100000;
    itimerspec const spec{{0, every}, {0, every}};
    timer_settime(timer, 0, &spec, nullptr);
    auto const end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
    while (std::chrono::steady_clock::now() < end) {
      uint64_t before[kWords];
      unsigned char before_bytes[128];
      memcpy(before, words, sizeof words);
      memcpy(before_bytes, bytes, sizeof bytes);
      uint64_t* const before_block = block;
      uint64_t const seed = next() >> 20;
      int const isolation = static_cast<int>(seed % 2) * SRS_TRACK;  // release would keep finished sections
      srs_status const status = srs::request([&] { scope(seed); }, {.isolation = isolation});
      srs_slot const& slot = *fake::my_slot();
      if (slot.depth != 0 || slot.critical != 0 || slot.pending != 0 || slot.waiting_for != 0) wrong++;
      if (status == SRS_OK) {
        committed++;
      } else {
        faulted++;
        if (memcmp(before, words, sizeof words) != 0) wrong++;
        if (memcmp(before_bytes, bytes, sizeof bytes) != 0) wrong++;
        if (block != before_block) wrong++;
        if (srs_ptr_check(block, 64) != block) wrong++;
      }
    }
    timer_delete(timer);
  }
};

}  // namespace

TEST(SrsAsync, ABlowAtAnyInstructionLeavesNothingBehind) {
  Worker workers[kThreads];
  std::thread threads[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    workers[i].random = static_cast<uint64_t>(i) + 1;
    threads[i] = std::thread([&, i] { workers[i].run(); });
  }
  uint64_t committed = 0;
  uint64_t faulted = 0;
  for (int i = 0; i < kThreads; ++i) {
    threads[i].join();
    EXPECT_EQ(workers[i].wrong, 0u) << "worker " << i;
    committed += workers[i].committed;
    faulted += workers[i].faulted;
  }
  EXPECT_EQ(total, committed * 2);
  EXPECT_GT(faulted, 50u);
  EXPECT_GT(committed, 50u);
  for (std::mutex& m : locks) {
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  }
  for (uint32_t i = 1; i < fake::host().next; ++i) EXPECT_EQ(fake::host().logs[i].bad, 0u);
  RecordProperty("struck", std::to_string(fake::struck));
  RecordProperty("committed", std::to_string(committed));
}
