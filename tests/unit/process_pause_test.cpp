// links: vmm
// Who counts as stopped, and where.
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/unit/signals_double.hpp"

namespace {

// A thread that was parked inside a call by one pause must not be taken for one at its gate by a stop that follows
// before it has woken: its registers are those of the call's beginning, and the call's number would be its result.
TEST(ProcessPause, AThreadParkedInsideACallIsNotAtItsGate) {
  vmm_test::FakeProcess process;
  vmm_test::FakeThread& thread = process.add_thread();
  std::atomic<int> place{0};
  std::atomic<bool> over{false};
  std::thread guest([&] {
    while (!over) {
      place = 1;
      process.park_if_pausing(thread, false);
      place = 2;
      process.park_if_pausing(thread, true);
    }
    place = 3;
  });
  for (int i = 0; i < 2000; ++i) {
    process.pause_all(nullptr);
    process.resume_all();
    process.stop_at_gates();
    EXPECT_EQ(place, 2) << "in round " << i;
    process.resume_all();
  }
  over = true;
  guest.join();
}

// One thread is parked with a lock that another one waits for: the pause comes about all the same.
TEST(ProcessPause, AThreadThatWaitsForAParkedOnesLockCountsAsStopped) {
  vmm_test::FakeProcess process;
  std::mutex lock;
  std::atomic<bool> over{false};
  std::atomic<int> inside{0};
  std::vector<std::thread> guests;
  for (int n = 0; n < 3; ++n) {
    vmm_test::FakeThread& thread = process.add_thread();
    guests.emplace_back([&] {
      while (!over) {
        ASSERT_TRUE(thread.lock_in([&] { return lock.try_lock(); }, [&] { lock.lock(); }));
        EXPECT_EQ(++inside, 1);
        process.park_if_pausing(thread, false);
        --inside;
        lock.unlock();
        process.park_if_pausing(thread, true);
      }
    });
  }
  for (int i = 0; i < 1000; ++i) {
    process.pause_all(nullptr);
    process.resume_all();
    process.stop_at_gates();
    EXPECT_EQ(inside, 0) << "in round " << i;
    process.resume_all();
  }
  over = true;
  for (std::thread& guest : guests) guest.join();
}

}  // namespace
