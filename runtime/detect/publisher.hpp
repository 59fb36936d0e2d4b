// The monitor's side of failure detection: a status page in the registry, kept by a thread of its own that only reads
// what the monitor counts anyway, so that the guest's threads do nothing for it; and the applications' detectors.
//
//   create()   before the first thread exists; registers the VM. Failing to is no reason not to run: the caller says so
//              where it is asked for, and goes on without
//   start()    before the program is loaded
//   finish()   after the last guest thread ended: an operator's stop and a program that finished deregister; what
//   failed
//              leaves its record for the VM detector, and for who asks later
//
// One caller; the threads are its own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/detect/app_detector.hpp"
#include "runtime/detect/registry.hpp"
#include "vmm/process.hpp"

namespace vmsrs::runtime::detect {

struct PublishOptions {
  std::string registry = Registry::default_name();
  std::string name;      // empty: the program's
  std::string program;   // its path
  bool service = false;  // an end with status 0 is a failure too; so with any probe
  std::vector<AppRegistration> apps;
  uint32_t beat_ms = 100;
};

class Publisher {
 public:
  static vmm::Result<std::unique_ptr<Publisher>> create(PublishOptions const& options);
  ~Publisher();
  Publisher(Publisher const&) = delete;
  Publisher& operator=(Publisher const&) = delete;

  // open_scopes: request scopes under way; null: nobody knows.
  void start(vmm::Process& process, std::function<uint64_t()> open_scopes);
  void finish();
  // Ends its threads: from here on it does not look at the process. finish() does so too.
  void stop();
  [[nodiscard]] std::string name() const { return vm_.name.get(); }

 private:
  Publisher(std::unique_ptr<Registry> registry, VmRecord& vm, uint32_t beat_ms)
      : registry_(std::move(registry)), vm_(vm), beat_ms_(beat_ms) {}
  void run();
  void beat();
  void publish_threads(uint64_t now);
  void start_detectors();
  void ended();

  std::unique_ptr<Registry> registry_;
  VmRecord& vm_;
  uint32_t beat_ms_;
  vmm::Process* process_ = nullptr;
  std::function<uint64_t()> open_scopes_;
  std::array<std::unique_ptr<AppDetector>, kMaxApps> detectors_;
  std::atomic<bool> ended_{false};
  uint64_t rounds_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

// How the guest ended, as its record has it.
EndOfRun end_of(VmRecord const& vm);
// The signal from outside that asked the process to end; 0: none did.
uint32_t stop_signal_of(vmm::Process const& process);

}  // namespace vmsrs::runtime::detect
