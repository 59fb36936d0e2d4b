// The detector of one application: a thread of the monitor whose guest serves it. It asks, looks at the guest's threads
// while the answer is not there, and writes its verdict into the application's record. The VM detector watches its
// beat.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "runtime/detect/registry.hpp"
#include "runtime/detect/verdict.hpp"
#include "runtime/detect/wait_graph.hpp"
#include "vmm/process.hpp"

namespace vmsrs::runtime::detect {

class AppDetector {
 public:
  // Starts its thread. `app` is registered; all must outlive it.
  AppDetector(Registry& registry, VmRecord& vm, AppRecord& app, vmm::Process& process);
  ~AppDetector();  // ends the thread
  AppDetector(AppDetector const&) = delete;
  AppDetector& operator=(AppDetector const&) = delete;

 private:
  void run();
  void look();
  bool pause(uint64_t ms);  // false: it is to end
  void settle(AppEvidence const& evidence);
  void without_probe();
  [[nodiscard]] bool over() const;

  Registry& registry_;
  VmRecord& vm_;
  AppRecord& app_;
  vmm::Process& process_;
  WaitGraph graph_;
  uint64_t looked_ns_ = 0;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace vmsrs::runtime::detect
