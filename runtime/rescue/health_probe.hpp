// After a rescue: does the server still answer? Asks through its front door, a socket that it listens on, on a thread
// of the monitor's own. A server that lost a lock, or a thread that everybody waits for, shows itself there.
//
// Thread-safe.
#pragma once

#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace vmsrs::runtime {

class HealthProbe {
 public:
  // failed: called on the probe's thread, once, with what went wrong.
  explicit HealthProbe(uint64_t limit_ms, std::function<void(std::string const&)> failed);
  ~HealthProbe();
  HealthProbe(HealthProbe const&) = delete;
  HealthProbe& operator=(HealthProbe const&) = delete;

  // A socket on which the guest has begun to listen. The first of a Unix address is preferred, then the first of all.
  void listening(int host_fd);
  // What to say and how the answer begins (srs/rescue.h). Without it a connection that is accepted is all that can be
  // asked for, and the kernel does that by itself: no probe is made.
  void question(std::string send, std::string expect);
  void ask();  // soon; several at once are one
  void stop();
  [[nodiscard]] uint64_t asked() const { return asked_.load(); }

 private:
  void run();
  std::string probe();
  bool ready(int fd, short events, std::chrono::steady_clock::time_point end) const;

  uint64_t const limit_ms_;
  std::function<void(std::string const&)> failed_;
  std::mutex mutex_;
  std::condition_variable wake_;
  sockaddr_storage address_{};
  socklen_t address_size_ = 0;
  int type_ = 0;
  std::string send_, expect_;
  bool known_ = false, wanted_ = false;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> asked_{0};
  std::thread thread_;
};

}  // namespace vmsrs::runtime
