// links: srs_hosted
// Blocks in the life of scopes: frees wait for the commit, reuse waits for every scope that may remember.
#include <gtest/gtest.h>

#include <mutex>
#include <set>
#include <srs/srs.hpp>
#include <string>
#include <thread>

#include "tests/unit/srs_fake_host.hpp"

namespace {

[[gnu::noinline]] void crash() {
  auto* volatile nowhere = reinterpret_cast<int*>(16);
  *nowhere = 1;
}

constexpr size_t kSize = 20480;  // a size class of its own, where reuse is easy to see

// Whether the heap hands this block out again within a number of allocations.
bool comes_back(void* block) {
  std::vector<void*> taken;
  bool found = false;
  for (int i = 0; i < 200 && !found; ++i) {
    taken.push_back(srs_malloc(kSize));
    found = taken.back() == block;
  }
  for (void* p : taken) srs_free(p);
  return found;
}

}  // namespace

TEST(SrsHeap, FreeInAScopeTakesEffectAtCommit) {
  auto* block = static_cast<uint64_t*>(srs_malloc(kSize));
  EXPECT_EQ(srs::request([&] {
              srs_free(block);
              EXPECT_FALSE(comes_back(block));
              EXPECT_NE(srs_ptr_check(block, 8), nullptr) << "still an object";
            }),
            SRS_OK);
  EXPECT_TRUE(comes_back(block));
}

TEST(SrsHeap, KnowsItsOwnAddresses) {
  void* const block = srs_malloc(kSize);
  int local = 0;
  EXPECT_TRUE(srs_heap_contains(block));
  EXPECT_TRUE(srs_heap_contains(static_cast<char*>(block) + kSize - 1));
  EXPECT_FALSE(srs_heap_contains(&local));
  EXPECT_FALSE(srs_heap_contains(nullptr));
  srs_free(block);
  EXPECT_TRUE(srs_heap_contains(block));
}

TEST(SrsHeap, AbortKeepsABlockThatAFinalWordMayPointTo) {
  static std::mutex lock;
  auto* const list = static_cast<uint64_t**>(srs_calloc(1, sizeof(uint64_t*)));
  void* late = nullptr;
  EXPECT_EQ(srs::request(
                [&] {
                  auto* const block = static_cast<uint64_t*>(srs_malloc(kSize));
                  {
                    std::lock_guard const hold(lock);
                    srs_store64(list, reinterpret_cast<uint64_t>(block));
                  }
                  late = srs_malloc(kSize);
                  crash();
                },
                {.isolation = SRS_RELEASE}),
            SRS_FAULTED);
  ASSERT_NE(list[0], nullptr) << "final at the unlock";
  EXPECT_TRUE(comes_back(late)) << "allocated after the last word that is final";
  EXPECT_FALSE(comes_back(list[0]));
  srs_free(list[0]);
  srs_free(list);
}

TEST(SrsHeap, AbortTakesFreesBack) {
  auto* block = static_cast<uint64_t*>(srs_malloc(kSize));
  block[0] = 42;
  EXPECT_EQ(srs::request([&] {
              srs_store64(&block[0], 43);
              srs_free(block);
              crash();
            }),
            SRS_FAULTED);
  EXPECT_EQ(block[0], 42u);
  EXPECT_FALSE(comes_back(block));
  srs_free(block);
  EXPECT_TRUE(comes_back(block));
}

TEST(SrsHeap, AbortFreesWhatTheScopeAllocated) {
  void* block = nullptr;
  EXPECT_EQ(srs::request([&] {
              block = srs_malloc(kSize);
              crash();
            }),
            SRS_FAULTED);
  EXPECT_TRUE(comes_back(block));
}

TEST(SrsHeap, AbortFreesABlockOnceThatTheScopeAllocatedAndFreed) {
  void* block = nullptr;
  EXPECT_EQ(srs::request([&] {
              block = srs_malloc(kSize);
              srs_free(block);
              crash();
            }),
            SRS_FAULTED);
  std::set<void*> given;
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(given.insert(srs_malloc(kSize)).second);
  for (void* p : given) srs_free(p);
}

TEST(SrsHeap, NestedFreesBecomeTheParents) {
  void* block = srs_malloc(kSize);
  EXPECT_EQ(srs::request([&] {
              EXPECT_EQ(srs::request([&] { srs_free(block); }), SRS_OK);
              EXPECT_FALSE(comes_back(block));
              crash();
            }),
            SRS_FAULTED);
  EXPECT_FALSE(comes_back(block));
  EXPECT_EQ(srs::request([&] {
              EXPECT_EQ(srs::request([&] {
                          srs_free(block);
                          crash();
                        }),
                        SRS_FAULTED);
            }),
            SRS_OK);
  EXPECT_FALSE(comes_back(block));
  srs_free(block);
}

TEST(SrsHeap, ReuseWaitsForEveryScopeOfThatMoment) {
  std::atomic<int> step{0};
  std::thread other([&] {
    srs::request([&] {
      step = 1;
      while (step != 2) std::this_thread::yield();
    });
    step = 3;
  });
  while (step != 1) std::this_thread::yield();
  void* block = srs_malloc(kSize);
  srs_free(block);
  EXPECT_FALSE(comes_back(block)) << "the other scope may have a pointer to it";
  EXPECT_EQ(srs::request([] {}), SRS_OK);
  EXPECT_FALSE(comes_back(block));
  step = 2;
  other.join();
  EXPECT_EQ(srs::request([] {}), SRS_OK);
  EXPECT_TRUE(comes_back(block));
}

TEST(SrsHeap, AScopeThatBeganLaterDoesNotDelayReuse) {
  void* block = srs_malloc(kSize);
  srs_free(block);
  std::atomic<int> step{0};
  std::thread other([&] {
    srs::request([&] {
      step = 1;
      while (step != 2) std::this_thread::yield();
    });
  });
  while (step != 1) std::this_thread::yield();
  EXPECT_TRUE(comes_back(block));
  step = 2;
  other.join();
}

TEST(SrsHeap, ReallocIsUndone) {
  auto* block = static_cast<char*>(srs_malloc(100));
  memset(block, 'a', 100);
  EXPECT_EQ(srs::request([&] {
              auto* grown = static_cast<char*>(srs_realloc(block, 100000));
              if (memcmp(grown, block, 100) != 0) abort();
              srs_memset(grown, 'b', 1000);
              crash();
            }),
            SRS_FAULTED);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(block[i], 'a');
  EXPECT_EQ(srs_ptr_check(block, 100), block);
  srs_free(block);
}

TEST(SrsHeap, DoubleFreesAreFaultsOfTheScope) {
  void* block = srs_malloc(64);
  EXPECT_EQ(srs::request([&] {
              srs_free(block);
              srs_free(block);
            }),
            SRS_FAULTED);
  EXPECT_EQ(srs::request([&] { srs_free(block); }), SRS_OK);
  EXPECT_EQ(srs::request([&] { srs_free(block); }), SRS_FAULTED);
  EXPECT_EQ(srs::request([&] { srs_free(&block); }), SRS_FAULTED);
}

TEST(SrsHeap, ManyThreadsAllocateFreeAndAbort) {
  std::vector<std::thread> threads;
  std::atomic<uint64_t> wrong{0};
  for (uint64_t i = 1; i <= 4; ++i) {
    threads.emplace_back([&, i] {
      fake::install_handlers(true);
      uint64_t random = i;
      for (int k = 0; k < 300; ++k) {
        srs::request([&] {
          uint64_t* blocks[8];
          for (auto*& b : blocks) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            size_t const words = 1 + (random >> 33) % 400;
            b = static_cast<uint64_t*>(srs_malloc(words * 8));
            b[0] = b[words - 1] = reinterpret_cast<uint64_t>(b);
          }
          for (auto* b : blocks) {
            if (b[0] != reinterpret_cast<uint64_t>(b)) wrong++;
            srs_free(b);
          }
          if (k % 3 == 0) crash();
        });
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0u);
}

TEST(SrsHeap, ProgramKeepsItsOwnMalloc) {
  void* ours = srs_malloc(64);
  void* theirs = malloc(64);
  EXPECT_DEATH(srs_ptr_check(theirs, 1), "");
  free(theirs);
  srs_free(ours);
}
