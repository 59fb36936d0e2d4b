// The run loop of one guest thread on its vCPU.
#pragma once

#include <sched.h>

#include <optional>
#include <string>

#include "vmm/call_sites.hpp"
#include "vmm/pollers.hpp"
#include "vmm/process.hpp"
#include "vmm/vcpu.hpp"

namespace vmm {

class GuestThread final : public Thread, private CallServer {
 public:
  GuestThread(Process& process, int tid, Vcpu& vcpu, Pollers& pollers, CallSites& sites);

  // Runs guest code until the thread or the process ends. On the host thread that owns the vCPU.
  void run();

  bool get_xsave(std::span<std::byte> to) override { return vcpu_.get_xsave(to); }
  bool set_xsave(std::span<std::byte const> from) override { return vcpu_.set_xsave(from); }
  Result<void> enter_view() override;
  void leave_view() override;
  [[nodiscard]] Registers call_registers() const override;
  void set_name(std::string name) { name_ = std::move(name); }  // before run()
  void finish() noexcept { finished_ = true; }                  // the exit system call; by the thread itself
  void adopt_host_thread();

  // For a checkpoint, while the thread stands at a gate: the system call that it is making and must make again. Its
  // registers are those behind the call's instruction, with rax not yet set.
  [[nodiscard]] std::optional<InterruptedCall> const& interrupted_call() const noexcept { return call_; }
  // For a restore, before run(): the thread goes on in the middle of this call.
  void resume_in_call(InterruptedCall const& call, int64_t deadline, uint64_t sent) noexcept;
  [[nodiscard]] unsigned vcpu_index() const noexcept { return vcpu_.index(); }
  [[nodiscard]] uint64_t sent_in_call() const noexcept { return sent_; }

  GuestAddr clear_child_tid;  // written 0 and woken at the thread's end
  GuestAddr set_child_tid;    // written the tid before the thread's first instruction
  cpu_set_t affinity{};       // its creator's, taken over by adopt_host_thread()
  GuestAddr robust_list;      // as set_robust_list gave it: walked with checked reads at the end

 private:
  // Lets a pause, a forced fault and pending signals happen. With `call`: the interrupted call they happen in; it is
  // reset when the registers no longer stand at it. False: the thread or the process ends.
  bool gate(std::optional<InterruptedCall>* call = nullptr);
  VmExit enter_guest();
  void on_syscall_exit(ExitSyscall const& exit);
  Answer serve_posted(SyscallArgs const& call, uint64_t site) override;
  void patch_site();
  bool site_is_hot(uint64_t site);
  void on_syscall();
  void make_call(SyscallArgs const& args);
  int64_t dispatch(SyscallArgs const& args);
  void on_exception(ExitException const& exception);
  void on_denied(ExitDenied const& exit);
  void step_back(uint64_t not_stored);
  [[nodiscard]] bool read_code(uint64_t from, void* to, uint64_t size);
  [[nodiscard]] bool look_up(GuestAddr addr, Vma& vma) const;
  void fault(Fault const& fault, ThreadSignals::Trap const* trap);
  void end_by_signal(SignalOutcome const& outcome);
  bool settle(SignalOutcome const& outcome);

  Vcpu& vcpu_;
  Pollers& pollers_;
  Seat& seat_;
  CallSites& sites_;
  std::optional<InterruptedCall> call_;  // under way, and interrupted
  bool resumed_ = false;                 // run() begins with it
  std::string name_;                     // to be given to it when it starts; empty: none
  bool site_due_ = false;                // a poller found the present call's site often used
  bool finished_ = false;
  unsigned denied_again_ = 0;  // the same access denied in a row, with nothing to explain it
  Registers denied_at_;
};

}  // namespace vmm
