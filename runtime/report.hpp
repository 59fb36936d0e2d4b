// Where reports go: every fault as one JSON line to a file, and to a person as a paragraph on stderr, fewer and shorter
// as they become many. Format: report_format.hpp. Writing never stops the guest: what cannot be written is counted and
// said once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "runtime/fault_report.hpp"
#include "runtime/run_summary.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime {

struct ReportError {
  std::string message;  // "--report FILE: open: Permission denied"
  int sys_errno = 0;
};

// Thread-safe. Reports of different threads never mix within a line or a paragraph.
class Reporter {
 public:
  struct Config {
    std::string file;          // "": no JSON; "-": stdout; else appended to, created with mode 0644 less umask
    int error_fd = 2;          // paragraphs; -1: none. Not owned.
    uint64_t paragraphs = 20;  // so many faults in full,
    uint64_t lines = 200;      // so many more in one line each; then only their number, each time so many more came
    uint64_t count_every = 1000;
  };
  static tl::expected<std::unique_ptr<Reporter>, ReportError> open(Config config);
  Reporter(Reporter const&) = delete;
  Reporter& operator=(Reporter const&) = delete;

  void report(FaultReport const& fault);
  // Something that is not right and belongs to no fault; thread 0: nobody's.
  void finding(int thread, std::string const& what);
  void summary(RunSummary const& summary);  // the last line; no paragraph
  [[nodiscard]] FaultTotals totals() const;
  [[nodiscard]] uint64_t lost_lines() const;

 private:
  explicit Reporter(Config config) : config_(std::move(config)) {}
  void write_json(std::string const& line);
  void tell(std::string_view text) const;

  Config config_;
  mutable std::mutex mutex_;
  vmm::ScopedFd owned_;
  int json_fd_ = -1;
  FaultTotals totals_;
  uint64_t lost_lines_ = 0;
  bool partial_ = false;  // the file ends within a line
  bool said_lost_ = false;
};

}  // namespace vmsrs::runtime
