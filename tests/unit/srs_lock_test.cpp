// links: srs_hosted
// Locks and isolation: what is held on to, what an abort gives back, and how waiting never becomes a deadlock.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <shared_mutex>
#include <srs/srs.hpp>
#include <thread>

#include "tests/unit/srs_fake_host.hpp"

namespace {

using namespace std::chrono_literals;

[[gnu::noinline]] void crash() {
  auto* volatile nowhere = reinterpret_cast<int*>(16);
  *nowhere = 1;
}

// Whether another thread can take the lock right now.
template <class M>
bool is_free(M& m) {
  bool free = false;
  std::thread([&] {
    free = m.try_lock();
    if (free) m.unlock();
  }).join();
  return free;
}

uint64_t count(srs_record_kind kind) {
  srs_free(srs_malloc(1));  // this thread has a slot from its first use on
  fake::drain(fake::my_slot());
  return fake::log_of(fake::my_slot()).kinds[kind];
}

void wait_for(std::atomic<int> const& step, int value) {
  auto const end = std::chrono::steady_clock::now() + 20s;
  while (step < value && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(100us);
  EXPECT_GE(step, value) << "the other thread did not get there";
}

}  // namespace

TEST(SrsLock, HoldKeepsAWrittenLockToTheEnd) {
  std::mutex m;
  uint64_t x = 0;
  EXPECT_EQ(srs::request(
                [&] {
                  m.lock();
                  srs_store64(&x, 1);
                  m.unlock();
                  EXPECT_FALSE(is_free(m));
                  m.lock();  // our own: at once
                  srs_store64(&x, 2);
                  m.unlock();
                  EXPECT_FALSE(is_free(m));
                },
                {.isolation = SRS_HOLD}),
            SRS_OK);
  EXPECT_TRUE(is_free(m));
  EXPECT_EQ(x, 2u);
}

TEST(SrsLock, HoldLetsGoOfALockThatOnlyGuardedReads) {
  std::mutex a;
  std::mutex b;
  uint64_t x = 0;
  EXPECT_EQ(srs::request([&] {
              {
                std::lock_guard const hold(a);
                srs_store64(&x, 1);
              }
              {
                std::lock_guard const hold(b);
                EXPECT_EQ(srs_load64(&x), 1u);
              }
              EXPECT_FALSE(is_free(a));
              EXPECT_TRUE(is_free(b));
            }),
            SRS_OK);
  EXPECT_TRUE(is_free(a));
}

TEST(SrsLock, HoldKeepsEveryLockOnceSomethingWasWrittenWithoutOne) {
  std::mutex m;
  uint64_t x = 0;
  EXPECT_EQ(srs::request([&] {
              srs_store64(&x, 1);
              m.lock();
              srs_store64(&x, 2);  // no record: the word is the scope's own
              m.unlock();
              EXPECT_FALSE(is_free(m));
            }),
            SRS_OK);
  EXPECT_TRUE(is_free(m));
}

TEST(SrsLock, AbortGivesBackWhatIsHeldAndWhatIsHeldOnTo) {
  std::mutex a;
  std::mutex b;
  std::recursive_mutex r;
  std::shared_mutex w;
  uint64_t x = 0;
  EXPECT_EQ(srs::request([&] {
              a.lock();
              srs_store64(&x, 1);
              a.unlock();
              b.lock();
              r.lock();
              r.lock();
              w.lock();
              crash();
            }),
            SRS_FAULTED);
  EXPECT_EQ(x, 0u);
  EXPECT_TRUE(is_free(a));
  EXPECT_TRUE(is_free(b));
  EXPECT_TRUE(is_free(r));
  EXPECT_TRUE(is_free(w));
}

TEST(SrsLock, LocksOfTheCallerSurviveAnAbort) {
  std::mutex before;
  before.lock();
  EXPECT_EQ(srs::request([&] { crash(); }), SRS_FAULTED);
  EXPECT_FALSE(is_free(before));
  uint64_t x = 0;
  EXPECT_EQ(srs::request([&] {
              srs_store64(&x, 1);
              before.unlock();
              crash();
            }),
            SRS_FAULTED);
  EXPECT_FALSE(is_free(before)) << "as if it had never been unlocked";
  before.unlock();
  EXPECT_TRUE(is_free(before));
}

TEST(SrsLock, NestedScopeHandsItsHoldsUp) {
  std::mutex m;
  uint64_t x = 0;
  EXPECT_EQ(srs::request([&] {
              EXPECT_EQ(srs::request([&] {
                          std::lock_guard const hold(m);
                          srs_store64(&x, 1);
                        }),
                        SRS_OK);
              EXPECT_FALSE(is_free(m));
              EXPECT_EQ(srs::request([&] {
                          std::lock_guard const hold(m);
                          srs_store64(&x, 2);
                          crash();
                        }),
                        SRS_FAULTED);
              EXPECT_EQ(x, 1u);
              EXPECT_FALSE(is_free(m)) << "the outer scope still holds on to it";
            }),
            SRS_OK);
  EXPECT_TRUE(is_free(m));
}

TEST(SrsLock, ReleaseMakesFinalAtTheOutermostUnlock) {
  std::mutex a;
  std::mutex b;
  uint64_t x = 0;
  uint64_t y = 0;
  uint64_t z = 0;
  uint64_t const before = count(SRS_REC_FINAL);
  EXPECT_EQ(srs::request(
                [&] {
                  srs_store64(&z, 1);  // under no lock: stays undoable
                  a.lock();
                  srs_store64(&x, 1);
                  b.lock();
                  srs_store64(&y, 1);
                  b.unlock();
                  EXPECT_EQ(count(SRS_REC_FINAL), before);
                  a.unlock();
                  EXPECT_EQ(count(SRS_REC_FINAL), before + 1);
                  EXPECT_TRUE(is_free(a));
                  srs_store64(&x, 2);  // logged again, under the fresh owner
                  crash();
                },
                {.isolation = SRS_RELEASE}),
            SRS_FAULTED);
  EXPECT_EQ(x, 1u);
  EXPECT_EQ(y, 1u);
  EXPECT_EQ(z, 0u);
}

TEST(SrsLock, ReleaseUndoesTheSectionThatFaulted) {
  std::mutex m;
  uint64_t x = 0;
  EXPECT_EQ(srs::request(
                [&] {
                  {
                    std::lock_guard const hold(m);
                    srs_store64(&x, 1);
                  }
                  std::lock_guard const hold(m);
                  srs_store64(&x, 2);
                  crash();
                },
                {.isolation = SRS_RELEASE}),
            SRS_FAULTED);
  EXPECT_EQ(x, 1u);
  EXPECT_TRUE(is_free(m));
}

TEST(SrsLock, TrackHoldsNothing) {
  std::mutex m;
  uint64_t x = 0;
  EXPECT_EQ(srs::request(
                [&] {
                  {
                    std::lock_guard const hold(m);
                    srs_store64(&x, 1);
                  }
                  EXPECT_TRUE(is_free(m));
                  crash();
                },
                {.isolation = SRS_TRACK}),
            SRS_FAULTED);
  EXPECT_EQ(x, 0u);
}

TEST(SrsLock, TrackNamesTheLiveWriterToTheNextTaker) {
  std::mutex written;
  std::mutex only_read;
  uint64_t x = 0;
  EXPECT_EQ(srs::request(
                [&] {
                  { std::lock_guard const hold(only_read); }
                  {
                    std::lock_guard const hold(written);
                    srs_store64(&x, 1);
                  }
                  uint64_t const writer = fake::my_slot()->owner;
                  std::thread([&] {
                    srs::request([&] {
                      only_read.lock();
                      only_read.unlock();
                      EXPECT_GT(count(SRS_REC_LOCK), 0u);
                      EXPECT_EQ(fake::log_of(fake::my_slot()).giver, 0u);
                      written.lock();
                      written.unlock();
                      EXPECT_GT(count(SRS_REC_LOCK), 1u);
                      EXPECT_EQ(fake::log_of(fake::my_slot()).giver, writer);
                    });
                  }).join();
                },
                {.isolation = SRS_TRACK}),
            SRS_OK);
}

TEST(SrsLock, ACycleThroughAHoldEndsTheHold) {
  std::mutex a;
  std::mutex b;
  uint64_t x = 0;
  uint64_t y = 0;
  std::atomic<int> step{0};
  uint64_t const cycles = fake::host().cycles;
  std::thread first([&] {
    EXPECT_EQ(srs::request([&] {
                {
                  std::lock_guard const hold(a);
                  srs_store64(&x, 1);
                }
                step++;
                wait_for(step, 2);
                std::lock_guard const hold(b);  // held on to by the other, who wants a
              }),
              SRS_OK);
  });
  EXPECT_EQ(srs::request([&] {
              {
                std::lock_guard const hold(b);
                srs_store64(&y, 1);
              }
              step++;
              wait_for(step, 2);
              std::lock_guard const hold(a);
            }),
            SRS_OK);
  first.join();
  EXPECT_GE(fake::host().cycles, cycles + 1);
  EXPECT_EQ(x, 1u);
  EXPECT_EQ(y, 1u);
  EXPECT_TRUE(is_free(a));
  EXPECT_TRUE(is_free(b));
}

TEST(SrsLock, ACycleWithAThreadOutsideEveryScope) {
  std::mutex a;
  std::mutex b;
  uint64_t x = 0;
  std::atomic<int> step{0};
  std::thread plain([&] {
    b.lock();
    step++;
    a.lock();  // held on to by the scope, which wants b
    a.unlock();
    b.unlock();
  });
  EXPECT_EQ(srs::request([&] {
              {
                std::lock_guard const hold(a);
                srs_store64(&x, 1);
              }
              wait_for(step, 1);
              std::lock_guard const hold(b);
            }),
            SRS_OK);
  plain.join();
  EXPECT_TRUE(is_free(a));
}

TEST(SrsLock, ReadHoldIsGivenUpForWriting) {
  std::shared_mutex m;
  uint64_t x = 0;
  EXPECT_EQ(srs::request([&] {
              m.lock_shared();
              srs_store64(&x, 1);
              m.unlock_shared();
              EXPECT_FALSE(is_free(m));
              m.lock_shared();  // still ours
              m.unlock_shared();
              m.lock();
              srs_store64(&x, 2);
              m.unlock();
              m.lock_shared();  // the write hold covers it
              m.unlock_shared();
              EXPECT_FALSE(is_free(m));
            }),
            SRS_OK);
  EXPECT_TRUE(is_free(m));
}

TEST(SrsLock, ConditionVariableGivesUpEveryHold) {
  std::mutex m;
  std::mutex other;
  std::condition_variable cv;
  bool ready = false;
  uint64_t x = 0;
  std::thread signaller([&] {
    std::lock_guard const both(other);  // would wait for ever if the scope held on to it
    std::lock_guard const hold(m);
    ready = true;
    cv.notify_all();
  });
  uint64_t const finals = count(SRS_REC_FINAL);
  EXPECT_EQ(srs::request([&] {
              {
                std::lock_guard const hold(other);
                srs_store64(&x, 1);
              }
              std::unique_lock hold(m);
              cv.wait(hold, [&] { return ready; });
              EXPECT_FALSE(is_free(m));
              crash();
            }),
            SRS_FAULTED);
  signaller.join();
  EXPECT_TRUE(is_free(m));
  EXPECT_TRUE(is_free(other));
  if (count(SRS_REC_FINAL) != finals) {
    EXPECT_EQ(x, 1u) << "final when the wait began";
  } else {
    EXPECT_EQ(x, 0u) << "the signal came before the wait";
  }
}

TEST(SrsLock, TimedWaitsEndInTime) {
  std::mutex m;
  std::timed_mutex t;
  std::condition_variable cv;
  std::atomic<int> step{0};
  std::thread holder([&] {
    t.lock();
    step++;
    wait_for(step, 2);
    t.unlock();
  });
  wait_for(step, 1);
  auto const begin = std::chrono::steady_clock::now();
  EXPECT_EQ(srs::request([&] {
              EXPECT_FALSE(t.try_lock());
              EXPECT_FALSE(t.try_lock_for(30ms));
              std::unique_lock hold(m);
              EXPECT_FALSE(cv.wait_for(hold, 120ms, [] { return false; }));
            }),
            SRS_OK);
  auto const took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took, 150ms);
  EXPECT_LT(took, 10s);
  step++;
  holder.join();
  EXPECT_EQ(srs::request([&] {
              EXPECT_TRUE(t.try_lock_for(1s));
              t.unlock();
            }),
            SRS_OK);
}

TEST(SrsLock, ErrorsAreTheCLibrarys) {
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_t m;
  pthread_mutex_init(&m, &attr);
  pthread_mutexattr_destroy(&attr);
  EXPECT_EQ(srs::request([&] {
              EXPECT_EQ(pthread_mutex_unlock(&m), EPERM);
              EXPECT_EQ(pthread_mutex_lock(&m), 0);
              EXPECT_EQ(pthread_mutex_lock(&m), EDEADLK);
              EXPECT_EQ(pthread_mutex_trylock(&m), EBUSY);
              EXPECT_EQ(pthread_mutex_unlock(&m), 0);
              EXPECT_EQ(pthread_mutex_unlock(&m), EPERM);
            }),
            SRS_OK);
  pthread_mutex_destroy(&m);
}

TEST(SrsLock, MoreLocksThanTheTableHolds) {
  std::vector<std::mutex> locks(100);
  EXPECT_EQ(srs::request([&] {
              for (std::mutex& m : locks) m.lock();
              for (std::mutex& m : locks) m.unlock();
            }),
            SRS_OK);
  for (std::mutex& m : locks) ASSERT_TRUE(is_free(m));
  EXPECT_EQ(srs::request([&] {
              for (std::mutex& m : locks) m.lock();
              crash();
            }),
            SRS_FAULTED);
  for (std::mutex& m : locks) ASSERT_TRUE(is_free(m));
}

TEST(SrsLock, NotedLocksAreRecorded) {
  int spin = 0;
  uint64_t x = 0;
  uint64_t const locks = count(SRS_REC_LOCK);
  uint64_t const unlocks = count(SRS_REC_UNLOCK);
  uint64_t const finals = count(SRS_REC_FINAL);
  EXPECT_EQ(srs::request(
                [&] {
                  srs_lock_note(&spin, 1);
                  srs_store64(&x, 1);
                  srs_lock_note(&spin, 0);
                },
                {.isolation = SRS_RELEASE}),
            SRS_OK);
  EXPECT_EQ(count(SRS_REC_LOCK), locks + 1);
  EXPECT_EQ(count(SRS_REC_UNLOCK), unlocks + 1);
  EXPECT_EQ(count(SRS_REC_FINAL), finals + 1);
}

TEST(SrsLock, ManyThreadsManyLocks) {
  std::mutex locks[4];
  srs::shared<uint64_t> counts[4];
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (unsigned k = 0; k < 300; ++k) {
        srs::request(
            [&] {
              for (unsigned n = 0; n < 2; ++n) {
                unsigned const which = (i * 7 + k * (n + 1) + n) % 4;
                std::lock_guard const hold(locks[which]);
                counts[which].store(counts[which].load() + 1);
              }
            },
            {.isolation = k % 3 == 0 ? SRS_RELEASE : SRS_HOLD});
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(counts[0] + counts[1] + counts[2] + counts[3], 2400u);
}
