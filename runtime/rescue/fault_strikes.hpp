// Faults at places that no program chose, for experiments: at every n-th end of a system call, or at random
// instructions of threads that serve a request (docs/rescue.md says what comes of them).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/options.hpp"
#include "vmm/process.hpp"

namespace vmsrs::runtime {

class FaultStrikes {
 public:
  explicit FaultStrikes(RescueOptions const& options);
  ~FaultStrikes() { stop(); }
  FaultStrikes(FaultStrikes const&) = delete;
  FaultStrikes& operator=(FaultStrikes const&) = delete;

  void start(vmm::Process& process);  // where random strikes are wanted
  void stop();
  // A system call has ended in a thread that serves a request: its turn?
  void after_call(vmm::Thread& thread, uint64_t nr);
  void counted();  // one has struck

 private:
  void run();

  RescueOptions const options_;
  vmm::Process* process_ = nullptr;
  std::atomic<uint64_t> calls_{0}, left_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace vmsrs::runtime
