// A host thread that looks at the deadlines of live scopes, and sweeps what demand restoration left over. It reads the
// slots in guest memory: a wrong deadline there costs its own thread only.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "runtime/slot_area.hpp"

namespace vmsrs::runtime {

class DeadlineWatch {
 public:
  ~DeadlineWatch() { stop(); }
  // `missed(slot index, owner)`: its innermost scope is past its deadline. `tick(now_ns)`: after each round.
  void start(SlotArea const& slots, std::function<void(uint64_t, uint64_t)> missed, std::function<void(uint64_t)> tick);
  void stop();

 private:
  void run(SlotArea const& slots);
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::function<void(uint64_t, uint64_t)> missed_;
  std::function<void(uint64_t)> tick_;
};

uint64_t monotonic_ns();

}  // namespace vmsrs::runtime
