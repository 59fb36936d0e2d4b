// One guest thread: a host thread that owns a vCPU while the guest thread lives.
//
// State machine, read by Process::pause_all():
//   kGuest    in KVM_RUN: a kick brings it out
//   kMonitor  in a handler: reaches a gate by itself soon
//   kBlocked  inside an interruptible host call: touches guest memory only through buffers it
//   announced kParked   at a gate, waiting for resume
// Every way from kMonitor or kBlocked to kGuest, and out of kBlocked, goes through gate().
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

#include "vmm/error.hpp"
#include "vmm/guest_addr.hpp"
#include "vmm/registers.hpp"
#include "vmm/signals.hpp"
#include "vmm/syscall.hpp"

namespace vmm {

class AddressSpace;
class FdTable;
class Process;
class Vcpu;
class View;

enum class RunState : int { kGuest, kMonitor, kBlocked, kParked };

class Thread {
 public:
  virtual ~Thread() = default;

  [[nodiscard]] Process& process() const noexcept { return process_; }
  [[nodiscard]] AddressSpace& memory() const noexcept;
  [[nodiscard]] FdTable& fds() const noexcept;
  [[nodiscard]] ThreadSignals& signals() noexcept { return signals_; }
  [[nodiscard]] int tid() const noexcept { return tid_; }  // virtual
  // The host thread that runs it; 0 before it started.
  [[nodiscard]] int host_tid() const noexcept { return host_tid_.load(std::memory_order_acquire); }

  // The guest's general registers as of the last exit; what is changed here is what the guest goes
  // on with. Only the thread itself, or anybody while it is parked.
  [[nodiscard]] Registers& regs() noexcept { return regs_; }
  // The GS base as the guest set it; 0 stands for the monitor's own (vmm/call_sites.hpp). Only the thread itself.
  [[nodiscard]] uint64_t gs_base() const noexcept;
  void set_gs_base(uint64_t base) noexcept;
  // x87/SSE/AVX state in XSAVE layout (Intel SDM vol. 1 chapter 13), 4096 bytes at most: costs an
  // ioctl each.
  virtual bool get_xsave(std::span<std::byte> to) = 0;
  virtual bool set_xsave(std::span<std::byte const> from) = 0;

  // A host system call that may block. Interrupted by a kick: the call did not happen and
  // kRestartSys comes back (never a lost wake-up: the check and the entry into the kernel are one
  // restartable sequence). Otherwise value or -errno. In an exitless call it never waits: kRestartSys where it would.
  int64_t block_in(long nr, uint64_t a0 = 0, uint64_t a1 = 0, uint64_t a2 = 0, uint64_t a3 = 0, uint64_t a4 = 0,
                   uint64_t a5 = 0);
  // Waits for a lock of the monitor's own that another thread may hold while it is parked within a call: that counts as
  // blocked, else who pauses all would wait for this thread, this one for that, and that one for who pauses all. The
  // lock may come with a pause: this thread is parked with it then. False, without the lock: in an exitless call it
  // would have to wait.
  template <class TryLock, class Lock>
  [[nodiscard]] bool lock_in(TryLock const& try_lock, Lock const& lock) {
    if (try_lock()) return true;
    if (exitless_) return false;
    begin_wait();
    lock();
    end_wait();
    return true;
  }
  // CLOCK_MONOTONIC ns at which the present (perhaps restarted) call must give up; 0: not set.
  // Cleared by dispatch() when the call really ends.
  [[nodiscard]] int64_t& restart_deadline() noexcept { return restart_deadline_; }

  // Makes the thread leave KVM_RUN or block_in() soon and look at its pending work. Any thread may
  // call it.
  void kick() noexcept;
  [[nodiscard]] RunState state() const noexcept { return state_.load(std::memory_order_acquire); }
  // How often it left the guest so far.
  [[nodiscard]] uint64_t exits() const noexcept { return exits_.load(std::memory_order_relaxed); }
  // The same with the calls that pollers answered: does not move while the thread only computes, or waits. Any thread.
  [[nodiscard]] uint64_t progress() const noexcept { return exits() + served_.load(std::memory_order_relaxed); }
  // In kBlocked: the host call in which it waits, and the host address of the futex word if it waits for one without a
  // limit of time, else 0. A snapshot for whoever looks from outside.
  struct Wait {
    long call = -1;
    uint64_t futex_word = 0;
  };
  [[nodiscard]] Wait wait() const noexcept {
    return {wait_call_.load(std::memory_order_relaxed), wait_word_.load(std::memory_order_relaxed)};
  }

  // Tells the layer above that the present call will write this guest memory; before the host call.
  void announce_out(GuestRange range);

  // For the layer above: the thread faults (FaultKind::kForced) at its next gate. Any thread may call it.
  void force_fault(int signal) noexcept;
  [[nodiscard]] bool fault_forced() const noexcept { return forced_.load() != 0; }  // and has not happened yet

  // For the layer above, by the thread itself: from here on the thread runs in the copy-on-write view (view.hpp), until
  // it leaves it. Errc::kBusy: another thread is in it. While it is there, no signal is delivered to it, and
  // Hooks::on_syscall_enter must answer each of its system calls: handlers know the main memory only. It may set
  // registers and leave the view, so no other host thread may serve a call in this one's place.
  virtual Result<void> enter_view() { return fail(Errc::kHostCall, "this thread has no view"); }
  virtual void leave_view() {}
  [[nodiscard]] View* view() const noexcept { return view_; }  // null: it runs in the main memory

  // The registers with which the guest goes on behind the system call that it is making: rip, rsp, rbx, rbp and r12 to
  // r15, the others being scratch. In Hooks::on_syscall_exit. An exitless call's come from memory that the guest can
  // write: they are worth no more than any word of the guest's.
  [[nodiscard]] virtual Registers call_registers() const { return regs_; }

  void* user_data = nullptr;    // of the layer above (hooks)
  void* rescue_data = nullptr;  // likewise

 protected:
  Thread(Process& process, int tid) : process_(process), tid_(tid) {}
  void begin_wait() noexcept;
  void end_wait() noexcept;

  Process& process_;
  int tid_;
  Registers regs_{};
  ThreadSignals signals_;
  std::atomic<RunState> state_{RunState::kMonitor};
  bool at_gate_ = false;  // while parked; guarded by the process's pause_mutex_
  std::atomic<bool> kicked_{false};
  int64_t restart_deadline_ = 0;
  std::atomic<uint64_t> exits_{0}, served_{0};  // each counted by one thread at a time
  std::atomic<long> wait_call_{-1};
  std::atomic<uint64_t> wait_word_{0};
  uint64_t own_gs_base_ = 0;  // in the guest's registers while it has set none
  bool exitless_ = false;     // a poller is at work for the thread: nothing may wait
  bool by_exit_ = false;      // what the poller tried can only be done by exit
  uint64_t sent_ = 0;         // bytes of the present call's write that a poller has sent already
  int64_t try_in_place(long nr, std::array<uint64_t, 6> const& args);
  std::atomic<int> forced_{0};  // signal of a forced fault
  std::atomic<int> host_tid_{0};
  uint8_t volatile* immediate_exit_ = nullptr;  // of the vCPU's run page
  View* view_ = nullptr;

  friend class Process;
};

}  // namespace vmm
