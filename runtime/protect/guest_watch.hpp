// Looks at a protected guest's threads for locks that nobody can release: threads that wait for each other in a circle
// (runtime/detect/wait_graph.hpp). Recovery breaks such a circle where it runs through requests (a deadline, a
// landing); one that stands for `stands` is told, once.
//
// A thread of its own, which only reads what the monitor keeps of each thread anyway.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace vmm {
class Process;
}

namespace vmsrs::runtime::protect {

class GuestWatch {
 public:
  // `stuck` gets who waits for whom, on the watch's thread.
  GuestWatch(vmm::Process& process, std::chrono::milliseconds stands, std::function<void(std::string const&)> stuck);
  ~GuestWatch();
  GuestWatch(GuestWatch const&) = delete;
  GuestWatch& operator=(GuestWatch const&) = delete;

 private:
  void watch();

  vmm::Process& process_;
  std::chrono::milliseconds stands_;
  std::function<void(std::string const&)> stuck_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace vmsrs::runtime::protect
