// links: vmm
// Who counts as stopped, and where.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

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

}  // namespace
