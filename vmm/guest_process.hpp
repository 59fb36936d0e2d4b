// A guest process on a VM: threads on pooled vCPUs, start and end.
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "vmm/guest_thread.hpp"
#include "vmm/loader.hpp"
#include "vmm/process.hpp"
#include "vmm/signal_gateway.hpp"
#include "vmm/view.hpp"
#include "vmm/vm.hpp"

namespace vmm {

class StateAccess;
struct ThreadImage;

struct ExitStatus {
  int code = 0;
  int signal = 0;  // != 0: died of it
  [[nodiscard]] int shell_status() const { return signal != 0 ? 128 + signal : code; }
};

class GuestProcess final : public Process {
 public:
  // pollers: as Pollers takes it.
  static Result<std::unique_ptr<GuestProcess>> create(std::unique_ptr<AddressSpace> memory, Hooks* hooks, bool verbose,
                                                      int pollers);
  ~GuestProcess() override;

  // Loads the program and runs it to its end; blocks. `gateway` has blocked the outside's signals and gets its thread.
  Result<ExitStatus> run(ProgramSpec const& program, SignalGateway& gateway);
  // The same with what `begin` makes: it starts the threads, or puts those of a checkpoint in place. on_process_start
  // has been called before.
  Result<ExitStatus> run(std::function<Result<void>()> const& begin, SignalGateway& gateway);

  // Called by run() on its own thread when the first thread has been started; may be empty.
  std::function<void(GuestProcess&)> on_started;

  int64_t start_thread(Registers const& regs, std::span<std::byte const> xsave, uint64_t blocked_signals,
                       GuestAddr clear_child_tid, GuestAddr set_child_tid, GuestAddr parent_tid) override;
  Result<View*> view() override;
  [[nodiscard]] bool view_open() const override;
  [[nodiscard]] Vm& vm() noexcept { return *vm_; }

 private:
  friend class StateAccess;  // vmm/checkpoint
  // A host thread that owns a vCPU for ever and runs guest threads on it, one after the other.
  struct Worker;
  GuestProcess() = default;
  Result<Worker*> idle_worker();
  Result<Worker*> make_worker();  // with workers_mutex_ held
  Result<Worker*> worker_at(unsigned index);
  void work(Worker& worker);
  void end_thread(GuestThread& thread);
  Result<void> restore_thread(ThreadImage const& image);

  std::unique_ptr<Vm> vm_;
  std::mutex view_mutex_;
  std::unique_ptr<View> view_;        // guarded by view_mutex_
  std::atomic<View*> made_{nullptr};  // it, once it is made
  std::unique_ptr<Pollers> pollers_;
  std::unique_ptr<CallSites> sites_;
  Hooks no_hooks_;
  std::mutex workers_mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
  std::condition_variable all_ended_;
  std::condition_variable probed_changed_;
  bool probed_ = false;  // guarded by workers_mutex_: the first vCPU knows this KVM
  int next_tid_ = kVirtualPid;
  bool stopping_ = false;
  SignalGateway* gateway_ = nullptr;
};

}  // namespace vmm
