#include "vmm/guest_process.hpp"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstdio>

#include "vmm/checkpoint/process_state.hpp"
#include "vmm/exitless_calls.hpp"
#include "vmm/kick.hpp"
#include "vmm/robust_list.hpp"
#include "vmm/safe_copy.hpp"
#include "vmm/seccomp_filter.hpp"

namespace vmm {

struct GuestProcess::Worker {
  explicit Worker(std::unique_ptr<Vcpu> v) : vcpu(std::move(v)) {}
  std::unique_ptr<Vcpu> vcpu;
  std::condition_variable wake;
  std::unique_ptr<GuestThread> job;  // guarded by workers_mutex_
  std::thread host;
};

Result<std::unique_ptr<GuestProcess>> GuestProcess::create(std::unique_ptr<AddressSpace> memory, Hooks* hooks,
                                                           bool verbose, int pollers) {
  install_safe_copy_handler();
  install_kick_handler();
  PostableCalls postable = exitless_calls();
  for (uint64_t nr = kHypercallBase; hooks != nullptr && nr < kHypercallEnd; ++nr) {
    if (hooks->exitless_hypercall(nr)) postable.set(STUB_HYPERCALLS + (nr - kHypercallBase));
  }
  auto vm = Vm::create(*memory, postable);
  if (!vm) return tl::unexpected(vm.error());
  std::unique_ptr<GuestProcess> process(new GuestProcess);
  process->memory_ = std::move(memory);
  process->fds_ = std::make_unique<FdTable>();
  process->vm_ = std::move(*vm);
  process->pollers_ =
      std::make_unique<Pollers>(pollers, process->vm_->max_vcpus(), process->stats_, &process->placement_);
  process->sites_ = std::make_unique<CallSites>(*process->memory_, process->vm_->system().syscall_stub(0));
  process->hooks_ = hooks != nullptr ? hooks : &process->no_hooks_;
  process->verbose_ = verbose;
  process->memory_->set_missing_handler(
      [p = process.get()](GuestRange range) { p->hooks_->on_missing_pages(nullptr, range); });
  return process;
}

GuestProcess::~GuestProcess() {
  pollers_->stop();
  signals_.shut_down();
  {
    std::lock_guard lock(workers_mutex_);
    stopping_ = true;
    for (auto& worker : workers_) worker->wake.notify_all();
  }
  for (auto& worker : workers_) worker->host.join();
}

Result<ExitStatus> GuestProcess::run(ProgramSpec const& spec, SignalGateway& gateway) {
  auto loaded = load_program(*this, spec);
  if (!loaded) return tl::unexpected(loaded.error());
  gateway_ = &gateway;
  return run(
      [&]() -> Result<void> {
        int64_t const r = start_thread(*loaded, {}, 0, {}, {}, {});
        if (r < 0) return fail_host("starting the first thread", static_cast<int>(-r));
        return {};
      },
      gateway);
}

Result<ExitStatus> GuestProcess::run(std::function<Result<void>()> const& begin, SignalGateway& gateway) {
  hooks_->on_process_start(*this);
  if (auto begun = begin(); !begun) return tl::unexpected(begun.error());
  if (auto r = gateway.start(*this); !r) return tl::unexpected(r.error());
  if (on_started) on_started(*this);
  std::unique_lock lock(threads_mutex_);
  all_ended_.wait(lock, [this] { return threads_.empty(); });
  lock.unlock();
  hooks_->on_process_end(*this);
  return ExitStatus{exit_code_.load(), exit_signal_.load()};
}

Result<GuestProcess::Worker*> GuestProcess::idle_worker() {
  std::lock_guard lock(workers_mutex_);
  if (!idle_.empty()) {
    Worker* worker = idle_.back();
    idle_.pop_back();
    return worker;
  }
  return make_worker();
}

Result<GuestProcess::Worker*> GuestProcess::make_worker() {
  auto const index = static_cast<unsigned>(workers_.size());
  auto vcpu = Vcpu::create(*vm_, index);
  if (!vcpu) return tl::unexpected(vcpu.error());
  pollers_->seat(index).bind(vm_->system().mailbox(index));
  stats_.vcpus_created.fetch_add(1, std::memory_order_relaxed);
  workers_.push_back(std::make_unique<Worker>(std::move(*vcpu)));
  Worker* worker = workers_.back().get();
  worker->host = start_filtered([this, worker] { work(*worker); });
  return worker;
}

bool GuestProcess::view_open() const {
  View const* const view = made_.load();
  return view != nullptr && view->open();
}

Result<View*> GuestProcess::view() {
  if (View* view = made_.load()) return view;
  std::unique_lock lock(view_mutex_, std::try_to_lock);
  if (!lock) return fail(Errc::kBusy, "another thread is in the view");  // it makes it, and will be
  if (view_ == nullptr) {
    auto view = View::create(*vm_, *memory_);
    if (!view) return tl::unexpected(view.error());
    view_ = std::move(*view);
    made_ = view_.get();
  }
  return view_.get();
}

int64_t GuestProcess::start_thread(Registers const& regs, std::span<std::byte const> xsave, uint64_t blocked_signals,
                                   GuestAddr clear_child_tid, GuestAddr set_child_tid, GuestAddr parent_tid) {
  auto worker = idle_worker();
  if (!worker) {
    fmt::print(stderr, "vmsrs: a thread could not start: {}\n", worker.error().message);
    return -EAGAIN;
  }
  Vcpu& vcpu = *(*worker)->vcpu;
  std::unique_lock threads(threads_mutex_);
  int const tid = next_tid_++;
  auto thread = std::make_unique<GuestThread>(*this, tid, vcpu, *pollers_, *sites_);
  thread->regs() = regs;
  thread->set_gs_base(regs.gs_base);
  thread->signals().blocked = blocked_signals;
  thread->clear_child_tid = clear_child_tid;
  thread->set_child_tid = set_child_tid;
  thread->affinity = placement_.own(gettid());
  if (tid == kVirtualPid && gateway_ != nullptr) gateway_->adopt(*this, *thread);
  threads_[tid] = thread.get();
  stats_.threads_started.fetch_add(1, std::memory_order_relaxed);
  if (threads_.size() > stats_.peak_threads) stats_.peak_threads = threads_.size();
  threads.unlock();
  if (!(xsave.empty() ? vcpu.reset_xsave() : vcpu.set_xsave(xsave))) broken("KVM_SET_XSAVE failed");
  // Before the child runs: it may read the word that its parent asked for.
  if (parent_tid && !memory().write(parent_tid, tid)) broken("the word for a new thread's id is gone");
  std::lock_guard lock(workers_mutex_);
  (*worker)->job = std::move(thread);
  (*worker)->wake.notify_one();
  return tid;
}

// A restored thread gets the vCPU that it had: its registers may hold the address of that one's stubs
// (vmm/call_sites.hpp).
Result<GuestProcess::Worker*> GuestProcess::worker_at(unsigned index) {
  std::unique_lock lock(workers_mutex_);
  while (workers_.size() <= index) {
    auto made = make_worker();
    if (!made) return made;
    idle_.push_back(*made);
    probed_changed_.wait(lock, [this] { return probed_; });  // no second vCPU before the first knows this KVM
  }
  Worker* const worker = workers_[index].get();
  if (std::erase(idle_, worker) == 0) return fail(Errc::kBadCheckpoint, "two threads have the same vCPU");
  return worker;
}

// While the process is paused: the thread stands at its first gate until it is resumed.
Result<void> GuestProcess::restore_thread(ThreadImage const& image) {
  auto worker = worker_at(image.vcpu);
  if (!worker) return tl::unexpected(worker.error());
  Vcpu& vcpu = *(*worker)->vcpu;
  auto thread = std::make_unique<GuestThread>(*this, image.tid, vcpu, *pollers_, *sites_);
  thread->regs() = image.regs;
  thread->set_gs_base(image.regs.gs_base);
  thread->clear_child_tid = GuestAddr(image.clear_child_tid);
  thread->robust_list = GuestAddr(image.robust_list);
  thread->set_name(image.name);
  sched_getaffinity(0, sizeof thread->affinity, &thread->affinity);
  ThreadSignals& signals = thread->signals();
  signals.blocked = image.blocked & ~kUnblockable;
  if (image.has_saved_mask) signals.saved_mask = image.saved_mask;
  signals.alt_stack = GuestAddr(image.alt_stack);
  signals.alt_size = image.alt_size;
  signals.alt_flags = image.alt_flags;
  signals.trap = {image.trap[0], image.trap[1], image.trap[2]};
  if (image.in_call) thread->resume_in_call({image.call_nr, image.call_result}, image.deadline, image.sent);
  if (!vcpu.set_xsave(image.xsave))
    return fail(Errc::kBadCheckpoint, "this processor refuses a thread's vector registers");
  {
    std::lock_guard threads(threads_mutex_);
    if (!threads_.emplace(image.tid, thread.get()).second)
      return fail(Errc::kBadCheckpoint, "a thread id is there twice");
    stats_.threads_started.fetch_add(1, std::memory_order_relaxed);
    if (threads_.size() > stats_.peak_threads) stats_.peak_threads = threads_.size();
  }
  std::lock_guard lock(workers_mutex_);
  (*worker)->job = std::move(thread);
  (*worker)->wake.notify_one();
  return {};
}

void GuestProcess::work(Worker& worker) {
  if (worker.vcpu->index() == 0) {
    if (auto r = worker.vcpu->probe(vm_->traits()); !r) broken(r.error().message);
    if (!vm_->traits().exit_from_ring3) sites_->turn_off();
    pollers_->set_exit_price(vm_->traits().exit_ns);
    stats_.exit_ns = vm_->traits().exit_ns;
  }
  std::unique_lock lock(workers_mutex_);
  probed_ = true;
  probed_changed_.notify_all();
  for (;;) {
    worker.wake.wait(lock, [&] { return worker.job != nullptr || stopping_; });
    if (worker.job == nullptr) return;
    std::unique_ptr<GuestThread> thread = std::move(worker.job);
    lock.unlock();
    thread->adopt_host_thread();
    thread->run();
    end_thread(*thread);
    lock.lock();
    idle_.push_back(&worker);
    // What the guest sees of the end (the woken joiner) comes after the vCPU is free again, so that a program that
    // creates and joins in a loop needs one vCPU, not two.
    GuestAddr const clear = thread->clear_child_tid;
    lock.unlock();
    if (clear && !exiting() && memory().write(clear, int32_t{0})) {
      if (void* word = memory().buffer(clear, 4, Access::kWrite)) {
        syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, nullptr, nullptr, 0);
        syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
      }
    }
    {
      std::lock_guard threads(threads_mutex_);
      threads_.erase(thread->tid());
      if (threads_.empty()) all_ended_.notify_all();
    }
    state_changed();
    thread.reset();
    lock.lock();
  }
}

void GuestProcess::end_thread(GuestThread& thread) {
  hooks_->on_thread_end(thread);
  placement_.forget(thread.host_tid());
  signals_.thread_exits(thread);
  if (!exiting()) release_robust_list(thread);
}

}  // namespace vmm
