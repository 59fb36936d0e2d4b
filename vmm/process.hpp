// The guest process: its memory, fds, signals and threads, and the means to pause them all.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vmm/address_space.hpp"
#include "vmm/error.hpp"
#include "vmm/fd_table.hpp"
#include "vmm/hooks.hpp"
#include "vmm/placement.hpp"
#include "vmm/signals.hpp"
#include "vmm/stats.hpp"
#include "vmm/thread.hpp"

namespace vmm {

class FileJournal;
class SocketRelay;
class TimePage;
class View;

inline constexpr int kVirtualPid = 1000;  // the guest's pid; its main thread's tid

class Process {
 public:
  virtual ~Process() = default;
  [[nodiscard]] AddressSpace& memory() noexcept { return *memory_; }
  [[nodiscard]] FdTable& fds() noexcept { return *fds_; }
  [[nodiscard]] ProcessSignals& signals() noexcept { return signals_; }
  [[nodiscard]] Hooks& hooks() noexcept { return *hooks_; }
  [[nodiscard]] Stats& stats() noexcept { return stats_; }
  [[nodiscard]] Placement& placement() noexcept { return placement_; }
  [[nodiscard]] static int pid() noexcept { return kVirtualPid; }
  [[nodiscard]] bool verbose() const noexcept { return verbose_; }
  // Starts a guest thread with these registers; its virtual tid, or -errno (EAGAIN: no vCPU left).
  virtual int64_t start_thread(Registers const& regs, std::span<std::byte const> xsave, uint64_t blocked_signals,
                               GuestAddr clear_child_tid, GuestAddr set_child_tid, GuestAddr parent_tid) = 0;

  // The copy-on-write view (view.hpp), made at the first call. Errc::kBusy: another thread is making it.
  [[nodiscard]] virtual bool view_open() const { return false; }  // a thread is in it
  virtual Result<View*> view() { return fail(Errc::kHostCall, "this process has no view"); }

  // Calls `f` for each live thread (the set is stable during the call; f must not start or end
  // threads).
  void for_each_thread(std::function<void(Thread&)> const& f);
  // Calls `f` if the thread lives; false: no such thread.
  bool with_thread(int tid, std::function<void(Thread&)> const& f);
  [[nodiscard]] unsigned thread_count();

  // What the guest was started as, for /proc/self and prctl.
  std::string exe_path;                 // absolute, symlinks resolved
  std::vector<std::string> argv, envp;  // as the guest got them
  std::string command_name;             // PR_SET_NAME of the main thread, 15 characters at most

  // Bit n-1: signal n came from outside the guest (vmm/signal_gateway.hpp).
  std::atomic<uint64_t> outside_signals{0};
  // Null: the guest's sockets are the host's. Set before the first thread starts; it must outlive the process.
  SocketRelay* socket_relay = nullptr;
  // Null: nobody wants to know what the guest does to files. As above.
  FileJournal* file_journal = nullptr;
  // Called once, on whatever thread ends the process, before its threads leave. Set before the first thread starts.
  // The outcome is that of exit_outcome().
  std::function<void()> when_exiting;
  struct Outcome {
    int code = 0, signal = 0;
  };
  [[nodiscard]] Outcome exit_outcome() const noexcept { return {exit_code_.load(), exit_signal_.load()}; }

  // Ends the process: every thread leaves at its next gate. signal != 0: died of it (status 128 +
  // signal).
  void exit_group(int code, int signal = 0) noexcept;
  // Ends the process because the monitor cannot go on: says why on stderr, status 125.
  void broken(std::string const& why) noexcept;
  [[nodiscard]] bool exiting() const noexcept { return exiting_.load(std::memory_order_acquire); }

  // Stops every other thread outside guest code (kBlocked counts as stopped: it is caught at the
  // gate on its way back). Returns when that holds. Serialised: a second caller waits as if parked.
  // Must be followed by resume_all() on the same host thread. `self` may be null for a host thread
  // that is no guest thread; a guest thread must stand as at a gate, its call under way recorded, since another pauser
  // may come first.
  void pause_all(Thread* self);
  void resume_all();
  // The same for a checkpoint: blocked calls are interrupted too, and every thread stands at a gate with its registers
  // whole (GuestThread::interrupted_call() says whether a call is to be made again). By a host thread that is no guest
  // thread.
  void stop_at_gates();
  [[nodiscard]] bool stopping_at_gates() const noexcept { return at_gates_.load(); }

  [[nodiscard]] bool pausing() const noexcept { return pausing_.load(); }
  // For Thread: a thread's state changed to one that a pauser may wait for; a gate for a thread outside the guest.
  void state_changed() noexcept;
  // `gate`: the thread stands at a gate, not inside a call's handler.
  void park_if_pausing(Thread& thread, bool gate = false);

 protected:
  Process() = default;
  std::unique_ptr<AddressSpace> memory_;
  std::unique_ptr<FdTable> fds_;
  ProcessSignals signals_;
  Hooks* hooks_ = nullptr;
  Stats stats_;
  Placement placement_;
  std::mutex threads_mutex_;
  std::map<int, Thread*> threads_;
  std::atomic<bool> exiting_{false};
  std::atomic<int> exit_code_{0}, exit_signal_{0};
  std::atomic<bool> pausing_{false}, at_gates_{false};
  Thread* pauser_ =
      nullptr;  // guarded by pause_mutex_; may be null while pausing: a host thread that is no guest thread
  std::mutex pause_mutex_;
  std::condition_variable pause_changed_;
  bool verbose_ = false;
  friend class Thread;

 public:
  // The clocks that the guest's vDSO and the monitor's own handlers share; null: the host's. It writes into the guest's
  // memory, so it is the last member: gone before memory_ is.
  std::shared_ptr<TimePage> time_page;
  GuestAddr time_page_at;  // in the guest; null: none
};

}  // namespace vmm
