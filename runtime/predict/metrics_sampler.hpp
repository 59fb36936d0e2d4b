// Samples what a process uses, from outside: for a guest, its monitor's process.
#pragma once

#include <sys/types.h>

#include <array>
#include <optional>
#include <vector>

#include "runtime/predict/recording.hpp"

namespace vmsrs::predict {

// CPU time is that of the process's CPU clock (nanoseconds; /proc/PID/stat counts in ticks of 10 ms), memory that of
// /proc/PID/statm, network the sum over the interfaces of /proc/PID/net/dev, disk /proc/PID/io's read_bytes and
// write_bytes. Network is counted by namespace, not by process: run the guest in one of its own, as a VM has an
// interface of its own. On loopback each byte counts twice, once sent and once received.
//
// Threads named "replication" are left out of the CPU time (replicate/quiet_thread.hpp): what a forecast makes an epoch
// cost must not make the next forecast. Nor do the epochs that they hold in memory: where there are such threads only
// the memory counts that is not anonymous, which of a monitor is its guest's. Theirs is from
// /proc/PID/task/TID/schedstat; threads that come or go are noticed within a minute of samples.
//
// Not thread-safe. The files stay open, so a new process with the same id is not mistaken for the old one.
class MetricsSampler {
 public:
  // Fails if there is no such process, or it is somebody else's (/proc/PID/io).
  static Result<MetricsSampler> open(pid_t pid);
  MetricsSampler(MetricsSampler&& other) noexcept;
  MetricsSampler& operator=(MetricsSampler&&) = delete;
  ~MetricsSampler();

  // Since the sample before (the first: since open), without labels; nothing once the process is gone.
  Result<std::optional<Sample>> sample();

 private:
  struct Counters {
    double time = 0, cpu = 0, network = 0, disk = 0;  // seconds, seconds, bytes, bytes
    double memory = 0, shared_memory = 0;             // bytes, now
    double left_out = 0;                              // seconds of CPU
  };
  MetricsSampler() = default;
  Result<std::optional<Counters>> read_counters();
  void find_left_out();
  double left_out_cpu();
  void close_left_out();

  pid_t pid_ = 0;
  clockid_t clock_ = 0;
  std::array<int, 3> files_{-1, -1, -1};  // statm, net/dev, io
  std::vector<int> left_out_;             // schedstat of each
  int until_search_ = 0;                  // samples
  Counters last_;
};

}  // namespace vmsrs::predict
