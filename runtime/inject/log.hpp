// What was injected and what came of it, as JSON lines; each is written when it happens, so that a guest that dies
// leaves them all.
//
//   {"type": "plan", "seed": 7, "injections": 20}
//   {"type": "injection", "index": 0, "kind": "null_read", "at": "store", "thread": 1003, "ip": "0x…", …}
//       also a plan's keys with all that was drawn: as a plan it repeats the injection
//   {"type": "outcome", "index": 0, "fault": "…", "signal": 11, "contained": true, "us": 812}
//   {"type": "end", "carried_out": 20, "planned": 20}
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "runtime/inject/plan.hpp"
#include "runtime/inject/strike.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime::inject {

struct Done {  // an injection, as it was carried out
  uint64_t index = 0;
  int thread = 0;
  uint64_t ip = 0, sp = 0;
  uint64_t count = 0;    // calls or hypercalls of the process since the injection before, or the thread's log record
  uint64_t stepped = 0;  // instructions stepped through after the trigger
  bool in_scope = false, in_request = false, critical = false;
  Struck struck;
  double seconds = 0;  // since the process began
};

// Thread-safe.
class Log {
 public:
  // "": none; "-": standard output; else appended to.
  static vmm::Result<std::unique_ptr<Log>> open(std::string const& file);

  void plan(Plan const& plan);
  void injection(Injection const& injection, Done const& done);
  // fault: what the thread faulted with ("" and signal 0: it did not); contained: it goes on elsewhere.
  void outcome(uint64_t index, std::string const& fault, int signal, bool contained, double us);
  void end(uint64_t carried_out, uint64_t planned);

 private:
  void write(std::string line);
  std::mutex mutex_;
  vmm::ScopedFd owned_;
  int fd_ = -1;
};

}  // namespace vmsrs::runtime::inject
