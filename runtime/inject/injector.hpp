// Carries out a plan on a running guest: stands in front of recovery's hooks, counts what the plan counts, and stops
// the thread that is to be struck. Recovery sees the fault that follows, and nothing else of it.
//
// Injections are carried out one after the other: the next one's count or delay begins when the one before has struck.
// Triggers that count are exact: the thread is stopped as the n-th call ends, or with the n-th log record written, and
// goes on `steps` instructions one by one (RFLAGS.TF). Delays are not.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/inject/log.hpp"
#include "runtime/inject/plan.hpp"
#include "runtime/inject/strike.hpp"
#include "runtime/recovery.hpp"
#include "vmm/hooks.hpp"
#include "vmm/process.hpp"

namespace vmsrs::runtime::inject {

class Injector final : public vmm::Hooks {
 public:
  // recovery: null: faults are the program's own. Both outlive this.
  static vmm::Result<std::unique_ptr<Injector>> create(Plan plan, std::string const& log_file,
                                                       vmm::AddressSpace& memory, Recovery* recovery);
  ~Injector() override;

  void on_process_start(vmm::Process& process) override;
  void on_process_end(vmm::Process& process) override;
  void on_thread_start(vmm::Thread& thread) override;
  void on_thread_end(vmm::Thread& thread) override;
  vmm::FaultVerdict on_fault(vmm::Thread& thread, vmm::Fault const& fault) override;
  bool on_missing_pages(vmm::Thread* thread, vmm::GuestRange range) override;
  int64_t on_hypercall(vmm::Thread& thread, vmm::SyscallArgs const& args) override;
  [[nodiscard]] bool exitless_hypercall(uint64_t nr) const override;
  std::optional<int64_t> on_syscall_enter(vmm::Thread& thread, vmm::SyscallArgs const& args) override;
  void on_syscall_write(vmm::Thread& thread, vmm::GuestRange range) override;
  void on_syscall_exit(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result) override;
  [[nodiscard]] bool wants_syscalls() const override { return true; }
  [[nodiscard]] bool single_steps() const override { return true; }

 private:
  Injector(Plan plan, std::unique_ptr<Log> log, std::unique_ptr<Striker> striker, vmm::AddressSpace& memory,
           Recovery* recovery);

  enum class Stage : uint8_t {
    kIdle,
    kStopping,  // told to fault at its next gate
    kToRecord,  // steps on until its log has the record
    kStepping   // carries out the injection's steps
  };
  struct OfThread {
    Stage stage = Stage::kIdle;
    uint64_t steps = 0;   // still to make
    uint64_t record = 0;  // kToRecord: of its log
    uint64_t stepped = 0;
    int64_t awaited = -1;  // index of the injection whose outcome is not known yet
    double struck_at = 0;
    uint64_t rip_before = 0;
  };

  [[nodiscard]] Injection const* current() const;
  [[nodiscard]] bool fits(vmm::Thread& thread, Injection const& injection) const;
  void count(vmm::Thread& thread, At at, uint64_t nr);
  void stop(vmm::Thread& thread);
  bool stopped(vmm::Thread& thread);
  bool step(vmm::Thread& thread);
  void go_on(vmm::Thread& thread, OfThread& state);
  void strike(vmm::Thread& thread, OfThread& state);
  void give_up(OfThread& state);
  void settle(OfThread& state, std::string const& fault, int signal, bool contained);
  vmm::FaultVerdict pass_on(vmm::Thread& thread, vmm::Fault const& fault);
  void arm_store();
  void disarm_store();
  void run();
  bool strike_by_delay(Injection const& injection, std::unique_lock<std::mutex>& lock);
  [[nodiscard]] double seconds() const;
  [[nodiscard]] bool begun() const;

  Plan const plan_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<Striker> striker_;
  vmm::AddressSpace& memory_;
  Recovery* const recovery_;
  vmm::Hooks none_;  // stands where recovery is off
  vmm::Hooks& inner_;
  vmm::Process* process_ = nullptr;
  uint64_t started_ns_ = 0;

  std::mutex mutex_;  // of what follows; never held while recovery or the list of threads is asked
  std::condition_variable wake_;
  bool stopping_ = false;
  std::atomic<uint64_t> next_{0};  // index of the injection that is due
  uint64_t counted_ = 0;           // of its calls, hypercalls or (strict) stores
  bool assigned_ = false;          // a thread is on its way to it
  std::map<int, OfThread> threads_;
  // Pages of logs on which awaited records will lie: away, so that the thread stops there.
  struct Armed {
    int tid = 0;
    uint64_t page = 0, record = 0;
  };
  std::vector<Armed> armed_;
  uint64_t last_count_ = 0;
  uint64_t carried_out_ = 0;
  std::thread timer_;
};

}  // namespace vmsrs::runtime::inject
