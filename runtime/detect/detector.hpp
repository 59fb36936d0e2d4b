// `vmsrs detectd`: the VM detector of a host, and by its role the detector of hosts and of other detectors.
//
// Between two sweeps it sleeps in epoll: a monitor's end (pidfd), the doorbell (an application's verdict, a
// registration) and another detector's end wake it at once. A sweep takes the host's CPU use, foretells it, sets the
// next period, and looks at everything. In the continuous mode, heartbeats that are due are looked at between sweeps.
//
// run() belongs to one thread; stop() may be called from any, and from a signal handler.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "runtime/detect/cluster_roles.hpp"
#include "runtime/detect/failure_event.hpp"
#include "runtime/detect/host_detector.hpp"
#include "runtime/detect/kalman.hpp"
#include "runtime/detect/period.hpp"
#include "runtime/detect/proc.hpp"
#include "runtime/detect/registry.hpp"
#include "runtime/detect/roles.hpp"

namespace vmsrs::runtime::detect {

struct DetectorOptions {
  std::string registry = Registry::default_name();
  PeriodPolicy period;
  double q = kProcessNoise, r = kMeasurementNoise;
  uint64_t vm_timeout_ms = 1000;  // without a heartbeat
  uint64_t lease_ms = 2000;       // of a detector's role
  HostDetector::Options hosts;
  std::string power = "none";
  std::string coordinator;  // of the detectors of several hosts (cluster_roles.hpp); empty: this host is alone
  std::string events = "-";
};

class Detector {
 public:
  static vmm::Result<std::unique_ptr<Detector>> create(DetectorOptions const& options,
                                                       std::function<void(FailureEvent const&)> heard = {});
  ~Detector();
  Detector(Detector const&) = delete;
  Detector& operator=(Detector const&) = delete;

  void run();
  void stop() noexcept;

 private:
  struct Watched {  // one slot of the registry
    ProcessId owner = 0;
    std::string name;
    vmm::ScopedFd process;
    bool ended = false;                         // its end was noticed
    uint64_t overdue_ns = 0, overdue_beat = 0;  // when its heartbeat was first found overdue, and which was the last
    FailureClass told = FailureClass::kUnknown;
    std::array<Verdict, kMaxApps> apps;
    std::array<FailureClass, kMaxApps> app_detectors{};
  };
  explicit Detector(DetectorOptions options) : options_(std::move(options)), forecast_(options_.q, options_.r) {}
  vmm::Result<void> set_up(std::function<void(FailureEvent const&)> heard);
  void listen();
  void wait(uint64_t until_ns);
  void sweep(uint64_t now);
  void look(uint64_t now, uint64_t late_ns);
  void scan();
  void meet(unsigned index, ProcessId owner);
  void judge(unsigned index, uint64_t now, uint64_t late_ns);
  void judge_apps(unsigned index, uint64_t now, bool vm_well);
  void forget(unsigned index);
  void tell_vm(unsigned index, Verdict const& verdict, uint64_t now);
  void step_roles(uint64_t now);
  void watch_detectors();
  vmm::Result<void> set_up_hosts(std::unique_ptr<PowerController> power);

  DetectorOptions options_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<EventLog> events_;
  std::unique_ptr<Roles> roles_;
  std::unique_ptr<ClusterRoles> cluster_;
  std::unique_ptr<HostDetector> hosts_;
  CpuForecast forecast_;
  HostCpu cpu_;
  std::map<unsigned, Watched> vms_;
  std::map<ProcessId, vmm::ScopedFd> detectors_;
  vmm::ScopedFd epoll_, bell_, stop_;
  std::atomic<bool> stopping_{false};
  std::thread listener_;
  uint64_t next_sweep_ns_ = 0, next_look_ns_ = 0, next_step_ns_ = 0, next_confirm_ns_ = UINT64_MAX;
};

}  // namespace vmsrs::runtime::detect
