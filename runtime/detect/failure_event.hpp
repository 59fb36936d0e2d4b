// What a detector says when a verdict changes: one JSON object a line.
//
//   {"time_ms": 1732756000123, "layer": "application", "vm": "shop", "name": "web", "class": "NRF", "cause":
//   "deadlock",
//    "evidence": "…", "before": "healthy", "noticed_ns": 81234567, "detector": 4711}
//
// layer: application, vm, host, detector; "vm" only of an application; noticed_ns: CLOCK_MONOTONIC.
#pragma once

#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "runtime/detect/verdict.hpp"
#include "vmm/error.hpp"

namespace vmsrs::runtime::detect {

struct FailureEvent {
  std::string layer, vm, name;
  Verdict verdict;
  FailureClass before = FailureClass::kUnknown;
};

std::string to_json(FailureEvent const& event);

// Where they go. Thread-safe.
class EventLog {
 public:
  // "-": standard output; empty: nowhere. `heard` is called with each event too; may be null.
  static vmm::Result<std::unique_ptr<EventLog>> open(std::string const& file,
                                                     std::function<void(FailureEvent const&)> heard = {});
  void say(FailureEvent const& event);

 private:
  std::mutex mutex_;
  bool to_stdout_ = false;
  std::ofstream file_;
  std::function<void(FailureEvent const&)> heard_;
};

}  // namespace vmsrs::runtime::detect
