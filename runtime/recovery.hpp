// Recovery on the monitor's hooks: libsrs's hypercalls, and what happens when a scope faults (design.md section 4).
//
// A fault's way: on_fault (the faulted thread itself, so that it is stopped) → Suppressor: take its polluted pages away
// (demand) → the store undoes the scope → the thread's registers are set to its landing (or unwinding) pad → report. No
// healthy thread is stopped for it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "runtime/deadline_watch.hpp"
#include "runtime/options.hpp"
#include "runtime/report.hpp"
#include "runtime/rescue/rescue.hpp"
#include "runtime/restorer.hpp"
#include "runtime/slot_area.hpp"
#include "runtime/store_client.hpp"
#include "runtime/symbols.hpp"
#include "runtime/thread_state.hpp"
#include "vmm/process.hpp"

namespace vmsrs::runtime {

struct RecoveryState;

class Recovery final : public vmm::Hooks {
 public:
  // Before any thread exists: forks the store process, which maps `memory`. Opens the report file.
  // `saved`: save_checkpoint()'s bytes of a guest whose memory this is; empty: a new guest.
  static vmm::Result<std::unique_ptr<Recovery>> create(Options const& options, vmm::AddressSpace& memory,
                                                       std::span<std::byte const> saved = {});
  ~Recovery() override;

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
  void on_mask_change(vmm::Thread& thread, uint64_t before) override;
  // ---- for fault injection (inject_access.cpp) ----
  struct ThreadView {
    bool in_scope = false, in_request = false;  // a request: also one that a rescue point guards
    bool critical = false, storing = false;     // libsrs's or the allocator's code; between a record and its store
    uint64_t slot = 0, ring = 0, head = 0;      // guest addresses, 0: the thread has none; records written so far
  };
  // By the thread itself, or while the process's list of threads is held: a snapshot then.
  [[nodiscard]] ThreadView look_at(vmm::Thread& thread) const;
  [[nodiscard]] std::vector<vmm::GuestRange> monitored();
  // A word of monitored memory is stored to as the thread's innermost scope, log and memory. False: not now.
  bool logged_write(vmm::Thread& thread, vmm::GuestAddr at, uint64_t value);
  [[nodiscard]] bool strict() const { return options_.store == SRS_STORE_STRICT; }

  // ---- checkpoints (recovery_checkpoint.cpp); with the guest standing at its gates ----
  // Brings what is open to an end. Errc::kBusy: not now (a thread is between its fault and its landing).
  vmm::Result<void> prepare_checkpoint();
  // Everything of recovery that is not in guest memory: live scopes can be undone after a restore.
  vmm::Result<std::vector<std::byte>> save_checkpoint();
  // After the threads of a restored guest are there, before they run.
  vmm::Result<void> restore_threads(vmm::Process& process);

  // Request scopes under way, as libsrs's slots in guest memory say. Any thread.
  [[nodiscard]] uint64_t open_scopes() const;
  // Ring records that the store has taken so far.
  [[nodiscard]] uint64_t log_records();
  [[nodiscard]] bool wants_syscalls() const override {
    return attached_.load(std::memory_order_relaxed) || rescue_ != nullptr;
  }

 private:
  RunSummary summary(vmm::Process& process);
  void start_watch();
  Recovery(Options options, vmm::AddressSpace& memory, SlotArea slots, std::unique_ptr<store::StoreClient> store,
           std::unique_ptr<Reporter> reporter);

  // ---- hypercalls (hypercalls.cpp) ----
  int64_t attach(vmm::Thread& thread, vmm::GuestAddr info);
  int64_t new_slot(vmm::Thread& thread);
  int64_t profile(vmm::SyscallArgs const& args);
  int64_t logged_range(vmm::SyscallArgs const& args);
  int64_t landed(vmm::Thread& thread, vmm::GuestAddr actions, uint64_t count);
  int64_t strict_fetch_op(vmm::Thread& thread, ThreadState& state, vmm::SyscallArgs const& args);
  int64_t journal_record(ThreadState& state, vmm::Thread& thread, vmm::GuestAddr record);
  int64_t store_result(store::Result<void> const& result);
  int64_t not_whole(vmm::Thread& thread, vmm::GuestAddr text);

  // ---- faults (suppress.cpp) ----
  struct Blow {  // what struck, in libsrs's words
    enum srs_fault_kind kind = SRS_FAULT_NONE;
    vmm::Fault fault;
    std::string why;
    bool by_call = false;  // SRS_HC_FAULT: nothing is wrong with the instruction
  };
  // True: the thread goes on at its landing pad (or with registers unchanged, where suppression is off).
  bool suppress(vmm::Thread& thread, Blow const& blow);
  bool innermost_landing(vmm::Thread& thread, ThreadState const& state, unsigned& depth, srs_landing& landing) const;
  struct Undone {
    bool done = false;
    bool demand = false;
    std::vector<uint64_t> candidates, polluted;  // pages taken away; those of them that wait
    std::vector<store::Owner> dependents;
  };
  Undone undo(vmm::Thread& thread, ThreadState& state, srs_landing const& landing, unsigned index, FaultReport& report);
  // ---- (escalation.cpp) ----
  void escalate(FaultReport report, vmm::Registers const& at_fault);
  std::string cannot_be_cut_off(ThreadState const& state, Blow const& blow, FaultReport& report);
  bool still_landing(ThreadState const& state) const;
  bool land_again(vmm::Thread& thread, ThreadState& state, Blow const& blow);
  std::string abort_message() const;
  void landing_over(vmm::Thread& thread, ThreadState& state);
  bool choose_demand(store::Owner scope, std::vector<uint64_t>& pages);
  void tell_finished();
  void strike_again();
  void land(vmm::Thread& thread, srs_landing const& landing, unsigned index, bool unwind, FaultReport& report);
  void strike_dependents(std::vector<store::Owner> const& dependents);
  void undo_effects(vmm::Thread& thread, ThreadState& state, uint64_t from_number, FaultReport& report);
  FaultReport describe(vmm::Thread& thread, Blow const& blow);
  void trace(FaultReport& report, vmm::Registers const& regs);
  void tell(FaultReport report);
  vmm::FaultVerdict forced(vmm::Thread& thread, vmm::Fault const& fault);

  // ---- policy `run` (restricted_run.cpp) ----
  bool prepare_run(vmm::Thread& thread, ThreadState& state, srs_landing const& landing, unsigned index,
                   Blow const& blow, FaultReport& report);
  int64_t run_hypercall(vmm::Thread& thread, ThreadState& state, vmm::SyscallArgs const& args);
  vmm::FaultVerdict run_fault(vmm::Thread& thread, ThreadState& state, vmm::Fault const& fault);
  void run_over(vmm::Thread& thread, ThreadState& state, vmm::Fault const& fault);
  std::optional<int64_t> run_call(vmm::Thread& thread, ThreadState& state, vmm::SyscallArgs const& args);
  void end_run(vmm::Thread& thread, ThreadState& state, std::string const& why);
  void strike_runs(uint64_t now_ns);

  // ---- system calls in scopes (scope_calls.cpp) ----
  std::optional<int64_t> output(vmm::Thread& thread, ThreadState& state, vmm::SyscallArgs const& args);
  int64_t let_output_go(vmm::Thread& thread, ThreadState& state);
  void commit_for_output(vmm::Thread& thread, ThreadState& state);

  // The number of the first owner of the scope at that depth index; of the guest's, so it can be wrong.
  uint64_t first_number(ThreadState const& state, uint64_t index) const;

  static ThreadState* state_of(vmm::Thread& thread) { return static_cast<ThreadState*>(thread.user_data); }

  Options options_;
  vmm::AddressSpace& memory_;
  vmm::Process* process_ = nullptr;
  SlotArea slots_;
  std::unique_ptr<store::StoreClient> store_;
  std::unique_ptr<Reporter> reporter_;
  Symbols symbols_;
  std::unique_ptr<Rescue> rescue_;  // null: off
  Restorer restorer_;
  DeadlineWatch watch_;
  std::atomic<bool> attached_{false};
  std::atomic<bool> shadowed_{false};  // there are logged ranges
  uint64_t landing_pad_ = 0, unwind_pad_ = 0, run_pad_ = 0, restorer_code_ = 0, abort_message_ = 0;
  std::mutex attach_mutex_;
  std::mutex profiled_mutex_;
  std::vector<vmm::GuestRange> profiled_;
  // Aborts are serialised; a page trapped meanwhile waits for it (paper 004, scenario 1).
  std::mutex abort_mutex_;
  std::atomic<uint64_t> faults_{0}, contained_{0}, uncontained_{0}, exposed_{0}, lock_cycles_{0};
  uint64_t started_ns_ = 0;
  std::unique_ptr<RecoveryState> restored_;  // until restore_threads()
};

}  // namespace vmsrs::runtime
