// links: srs_store
// The store with guest threads that really run: scopes are undone while the others log and store, and nobody stops.
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "tests/unit/store_guest.hpp"

namespace vmsrs::store::test {
namespace {

constexpr uint64_t kThreads = 4;

struct Shared {
  Guest guest;
  std::unique_ptr<Store> store;
  std::mutex monitor;  // serialises requests, as StoreClient does

  Shared() {
    Config c = guest.config();
    c.barrier = barrier_everywhere;
    store = std::make_unique<Store>(c, guest.memory());
    for (uint64_t i = 1; i <= kThreads; ++i) {
      if (!store->attach_slot(guest.slot_config(i))) std::abort();
    }
  }
  void drain(uint64_t slot) {
    std::lock_guard const lock(monitor);
    if (!store->drain(slot)) std::abort();
  }
  uint64_t begin(uint64_t t) {
    uint64_t const outer = guest.slot(t).owner;
    while (srs_log_begin(&guest.slot(t), 0) == SRS_LOG_FULL) drain(t);
    return outer;
  }
  void commit(uint64_t t, uint64_t outer) {
    while (srs_log_commit(&guest.slot(t), outer) == SRS_LOG_FULL) drain(t);
  }
  AbortResult abort(uint64_t t) {
    std::lock_guard const lock(monitor);
    auto result = store->abort(guest.slot(t).owner, Restore::eager);
    if (!result) std::abort();
    guest.slot(t).owner = result->outer;
    return *result;
  }
  void write(uint64_t t, uint64_t* word, uint64_t mask, uint64_t value) {
    for (;;) {
      int const r = srs_log_store(&guest.slot(t), guest.tag(word), word, mask, value);
      if (r == SRS_LOG_FULL) {
        drain(t);
        continue;
      }
      srs_store_step(&guest.slot(t), word, mask, value);
      return;
    }
  }
};

void run(std::function<void(uint64_t)> const& body) {
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t <= kThreads; ++t) threads.emplace_back(body, t);
  for (std::thread& t : threads) t.join();
}

// Every thread has two bytes of every word: all of them fight for the tags, none for the bytes.
TEST(StoreThreads, NeighboursInAWordKeepTheirBytes) {
  ASSERT_TRUE(register_for_barrier());
  Shared s;
  constexpr size_t kWords = 16;
  std::array<std::array<uint16_t, kWords>, kThreads + 1> kept{};
  run([&](uint64_t t) {
    std::mt19937 random(static_cast<unsigned>(t));
    unsigned const shift = 16 * static_cast<unsigned>(t - 1);
    auto& mine = kept[t];
    for (unsigned round = 0; round < 1500; ++round) {
      auto now = mine;
      uint64_t const outer = s.begin(t);
      for (unsigned i = 0; i < 6; ++i) {
        size_t const w = random() % kWords;
        now[w] = static_cast<uint16_t>(random());
        s.write(t, s.guest.words() + w, uint64_t{3} << (shift / 8), uint64_t{now[w]} << shift);
      }
      if (random() % 3 == 0) {
        EXPECT_EQ(s.abort(t).damaged, 0u);
      } else {
        s.commit(t, outer);
        mine = now;
      }
    }
  });
  for (size_t w = 0; w < kWords; ++w) {
    for (uint64_t t = 1; t <= kThreads; ++t) {
      ASSERT_EQ(static_cast<uint16_t>(s.guest.words()[w] >> (16 * (t - 1))), kept[t][w]) << "word " << w << " of " << t;
    }
  }
  s.store->drain_all();
  EXPECT_EQ(s.store->stats().entries, 0u);
  EXPECT_EQ(s.store->stats().damaged, 0u);
  EXPECT_EQ(s.store->stats().unordered, 0u);
  std::printf("%llu records, %llu taken unpublished\n", static_cast<unsigned long long>(s.store->stats().records),
              static_cast<unsigned long long>(s.store->stats().unpublished));
}

// Whole words, each under a lock of the program's that is given up before the scope ends.
TEST(StoreThreads, WholeWordsUnderLocksAreAsIfTheAbortedHadNeverStored) {
  ASSERT_TRUE(register_for_barrier());
  Shared s;
  constexpr size_t kWords = 8;
  struct Event {
    uint64_t scope;
    uint64_t value;
  };
  std::array<std::mutex, kWords> locks;
  std::array<std::vector<Event>, kWords> events;
  std::array<std::vector<bool>, kThreads + 1> aborted;
  constexpr unsigned kRounds = 1500;
  run([&](uint64_t t) {
    std::mt19937 random(static_cast<unsigned>(t) * 7);
    for (unsigned round = 0; round < kRounds; ++round) {
      uint64_t const outer = s.begin(t);
      for (unsigned i = 0; i < 4; ++i) {
        size_t const w = random() % kWords;
        uint64_t const value = random();
        std::lock_guard const lock(locks[w]);
        s.write(t, s.guest.words() + w, 0xff, value);
        events[w].push_back({t << 32 | round, value});
      }
      bool const abort = random() % 3 == 0;
      if (abort) {
        s.abort(t);
      } else {
        s.commit(t, outer);
      }
      aborted[t].push_back(abort);
    }
  });
  for (size_t w = 0; w < kWords; ++w) {
    uint64_t right = 0;
    for (Event const& e : events[w]) {
      if (!aborted[e.scope >> 32][e.scope & 0xffffffff]) right = e.value;
    }
    ASSERT_EQ(s.guest.words()[w], right) << "word " << w;
  }
  s.store->drain_all();
  EXPECT_EQ(s.store->stats().entries, 0u);
  EXPECT_EQ(s.store->stats().unordered, 0u);
}

TEST(StoreThreads, CommutingUpdatesOfAnAbortedScopeGoAway) {
  ASSERT_TRUE(register_for_barrier());
  Shared s;
  std::array<uint64_t, kThreads + 1> kept{};
  run([&](uint64_t t) {
    std::mt19937 random(static_cast<unsigned>(t) * 13);
    for (unsigned round = 0; round < 1500; ++round) {
      uint64_t const outer = s.begin(t);
      uint64_t sum = 0;
      for (unsigned i = 0; i < 4; ++i) {
        uint64_t const add = random() % 1000;
        while (srs_log_delta(&s.guest.slot(t), s.guest.tags(), s.guest.words(), 0xff, add) == SRS_LOG_FULL) s.drain(t);
        srs_delta_step(&s.guest.slot(t), s.guest.words(), 0xff, add);
        sum += add;
      }
      if (random() % 3 == 0) {
        s.abort(t);
      } else {
        s.commit(t, outer);
        kept[t] += sum;
      }
    }
  });
  EXPECT_EQ(s.guest.words()[0], kept[1] + kept[2] + kept[3] + kept[4]);
}

// Atomic objects: no lock of the program's at all.
TEST(StoreThreads, SwapsAreLoggedInTheOrderInWhichTheyHappen) {
  ASSERT_TRUE(register_for_barrier());
  Shared s;
  run([&](uint64_t t) {
    std::mt19937 random(static_cast<unsigned>(t) * 17);
    for (unsigned round = 0; round < 1500; ++round) {
      uint64_t const outer = s.begin(t);
      for (;;) {  // compare-and-swap loop: one thread's bit pattern replaces another's
        uint64_t old = 0;
        uint64_t const value = t << 32 | round;
        int const r = srs_log_swap(&s.guest.slot(t), s.guest.tags(), s.guest.words(), 0xff, value, &old);
        if (r == SRS_LOG_FULL) {
          s.drain(t);
        } else if (srs_swap_step(&s.guest.slot(t), s.guest.words(), 0xff, old, value)) {
          break;
        }
      }
      if (random() % 2 == 0 || t != 1) {
        s.abort(t);
      } else {
        s.commit(t, outer);
      }
    }
  });
  // Only thread 1 ever commits.
  EXPECT_EQ(s.guest.words()[0] >> 32, 1u);
  s.store->drain_all();
  EXPECT_EQ(s.store->stats().entries, 0u);
}

}  // namespace
}  // namespace vmsrs::store::test
