// The host layer: the master asks each host by ICMP echo, and its power controller when there is no answer (paper 000,
// formula 5). A thread of its own, since a controller may take its time.
#pragma once

#include <netinet/in.h>

#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/detect/failure_event.hpp"
#include "runtime/detect/power.hpp"
#include "runtime/detect/registry.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime::detect {

struct HostAddress {
  std::string name;
  in_addr address{};
  // "NAME=IPV4".
  static vmm::Result<HostAddress> parse(std::string const& text);
};

// ICMP echo requests (RFC 792), one at a time for each host. Needs CAP_NET_RAW, or net.ipv4.ping_group_range.
class Pinger {
 public:
  static vmm::Result<Pinger> open();
  // Sends to all, and waits until all have answered or timeout_ms are over; microseconds each took, 0: no answer.
  std::vector<uint64_t> ask(std::vector<HostAddress> const& hosts, uint64_t timeout_ms);

 private:
  vmm::ScopedFd socket_;
  bool raw_ = false;
  uint16_t id_ = 0, sequence_ = 0;
};

class HostDetector {
 public:
  struct Options {
    std::vector<HostAddress> hosts;
    uint64_t period_ms = 1000, timeout_ms = 1000;
  };
  // may_act: whether this detector is master; asked before each round.
  HostDetector(Options options, Pinger pinger, std::unique_ptr<PowerController> power, RegistryLayout& layout,
               EventLog& events, std::function<bool()> may_act);
  ~HostDetector();
  HostDetector(HostDetector const&) = delete;
  HostDetector& operator=(HostDetector const&) = delete;

 private:
  void run();
  void round();

  Options options_;
  Pinger pinger_;
  std::unique_ptr<PowerController> power_;
  RegistryLayout& layout_;
  EventLog& events_;
  std::function<bool()> may_act_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace vmsrs::runtime::detect
