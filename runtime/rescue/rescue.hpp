// Rescue points for unmodified servers (docs/rescue.md): a thread that faults while it serves a request goes back to
// the read that brought it, which returns ECONNRESET. The guard decides whether it may; where it may not, the server
// ends by the fault's signal, with the reason in the report, to be started again.
//
// Its calls are those of vmm::Hooks, with the same rules; thread-safe as these are.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "runtime/options.hpp"
#include "runtime/report.hpp"
#include "runtime/rescue/critical_code.hpp"
#include "runtime/rescue/fault_strikes.hpp"
#include "runtime/rescue/health_probe.hpp"
#include "runtime/rescue/landing_pad.hpp"
#include "runtime/symbols.hpp"
#include "vmm/hooks.hpp"
#include "vmm/process.hpp"

namespace vmsrs::runtime {

class Rescue {
 public:
  // reporter, symbols and the count of faults outlive it.
  Rescue(RescueOptions const& options, Reporter& reporter, Symbols& symbols, std::atomic<uint64_t>& faults);
  ~Rescue();

  void on_process_start(vmm::Process& process);
  void on_process_end();
  static void on_thread_start(vmm::Thread& thread);
  static void on_thread_end(vmm::Thread& thread);
  // Whether the thread serves a request that can be given up.
  [[nodiscard]] static bool serving(vmm::Thread& thread);
  // A fault that is in no scope of libsrs. `report`: as far as it is known without a look at the chain.
  vmm::FaultVerdict on_fault(vmm::Thread& thread, vmm::Fault const& fault, FaultReport report);
  // Whether a forced fault is one of the strikes of an experiment, and which fault it stands for.
  std::optional<vmm::Fault> struck(vmm::Thread& thread, vmm::Fault const& fault);
  std::optional<int64_t> on_hypercall(vmm::Thread& thread, vmm::SyscallArgs const& args);
  void on_syscall_exit(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result);

 private:
  int64_t attach(vmm::Thread& thread, vmm::GuestAddr at);
  int64_t adapter(vmm::Thread& thread, vmm::GuestAddr at);
  std::string forbidden(vmm::Thread& thread, LandingPad& pad, FaultReport& report, uint64_t& release);
  bool loops(uint64_t ip);
  void escalate(FaultReport report, std::string const& cause);

  RescueOptions const options_;
  Reporter& reporter_;
  Symbols& symbols_;
  vmm::Process* process_ = nullptr;
  std::atomic<uint64_t> pad_code_{0};  // libsrs_rescue's; 0: not preloaded
  std::mutex mutex_;                   // of what follows
  CriticalNames names_;
  std::map<uint64_t, std::deque<uint64_t>> at_;  // by ip: when the last rescues from there were, ns
  int last_signal_ = 0;
  std::atomic<uint64_t>& faults_;
  HealthProbe probe_;
  FaultStrikes strikes_;
};

}  // namespace vmsrs::runtime
