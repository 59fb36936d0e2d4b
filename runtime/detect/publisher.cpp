#include "runtime/detect/publisher.hpp"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "runtime/detect/guest_look.hpp"
#include "runtime/detect/proc.hpp"

namespace vmsrs::runtime::detect {
namespace {

constexpr unsigned kThreadsEach = 5;  // beats from one look at all threads to the next
constexpr uint32_t kAskForEnd[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP};

}  // namespace

EndOfRun end_of(VmRecord const& vm) {
  EndOfRun end;
  end.ended = vm.life.load() == Life::kEnded;
  end.code = vm.exit_code.load();
  end.signal = vm.exit_signal.load();
  end.wanted = vm.wanted.load() == Wanted::kStop;
  end.stop_signal = vm.stop_signal.load();
  end.service = vm.service.load() != 0;
  return end;
}

uint32_t stop_signal_of(vmm::Process const& process) {
  uint64_t const signals = process.outside_signals.load();
  for (uint32_t const signal : kAskForEnd) {
    if ((signals & 1ULL << (signal - 1)) != 0) return signal;
  }
  return 0;
}

vmm::Result<std::unique_ptr<Publisher>> Publisher::create(PublishOptions const& options) {
  auto registry = Registry::open(options.registry);
  if (!registry) return tl::unexpected(registry.error());
  std::string const base = std::filesystem::path(options.program).filename().string();
  VmRecord* const vm = (*registry)->register_vm(options.name.empty() ? base : options.name, options.program);
  if (vm == nullptr) return vmm::fail(vmm::Errc::kBusy, "registry " + options.registry + ": all places are taken");
  vm->service = options.service || !options.apps.empty() ? 1 : 0;
  vm->beat_period_ms = options.beat_ms;
  std::vector<AppRegistration> apps = options.apps;
  if (apps.empty()) apps.push_back({.name = "program", .probe = ""});
  for (AppRegistration const& app : apps) {
    if (auto const r = Registry::register_app(*vm, app); !r) {
      Registry::deregister_vm(*vm);
      return tl::unexpected(r.error());
    }
  }
  return std::unique_ptr<Publisher>(new Publisher(std::move(*registry), *vm, options.beat_ms));
}

Publisher::~Publisher() {
  stop();
  // Never started, or the monitor could not run its guest: that was said to whoever started it.
  if (!ended_.load()) {
    Registry::deregister_vm(vm_);
    registry_->ring();
  }
}

void Publisher::start(vmm::Process& process, std::function<uint64_t()> open_scopes) {
  process_ = &process;
  open_scopes_ = std::move(open_scopes);
  process.when_exiting = [this] { ended(); };
  vm_.life = Life::kRunning;
  beat();
  thread_ = std::thread([this] { run(); });
}

void Publisher::run() {
  pthread_setname_np(pthread_self(), "status");
  vm_.beat_tid = gettid();
  ask_for_promptness();
  registry_->ring();
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    start_detectors();
    beat();
    lock.lock();
    wake_.wait_for(lock, std::chrono::milliseconds(beat_ms_), [this] { return stopping_; });
  }
}

// Applications come and go while the guest runs.
void Publisher::start_detectors() {
  for (unsigned i = 0; i < kMaxApps; ++i) {
    bool const wanted = vm_.apps[i].registered.load() == 1;
    if (wanted == (detectors_[i] != nullptr)) continue;
    if (wanted) {
      detectors_[i] = std::make_unique<AppDetector>(*registry_, vm_, vm_.apps[i], *process_);
    } else {
      detectors_[i].reset();
    }
  }
}

void Publisher::beat() {
  uint64_t const now = now_ns();
  vmm::Stats const& s = process_->stats();
  auto const copy = [](std::atomic<uint64_t>& to, std::atomic<uint64_t> const& from) {
    to.store(from.load(std::memory_order_relaxed), std::memory_order_relaxed);
  };
  copy(vm_.kvm_exits, s.kvm_exits);
  copy(vm_.exitless_calls, s.exitless_calls);
  copy(vm_.hypercalls, s.hypercalls);
  copy(vm_.faults, s.faults);
  copy(vm_.memory_refused, s.memory_refused);
  copy(vm_.fds_refused, s.fds_refused);
  if (open_scopes_) vm_.open_scopes.store(open_scopes_(), std::memory_order_relaxed);
  vm_.stop_signal.store(stop_signal_of(*process_), std::memory_order_relaxed);
  if (rounds_++ % kThreadsEach == 0) publish_threads(now);
  vm_.beats.fetch_add(1, std::memory_order_relaxed);
  vm_.beat_ns.store(now, std::memory_order_release);
}

void Publisher::publish_threads(uint64_t now) {
  auto const looks = look_at_threads(*process_);
  uint64_t cpu = 0;
  size_t n = 0;
  for (ThreadLook const& look : looks) {
    cpu += look.cpu_ns;
    if (n == kMaxThreads) continue;
    ThreadCounters& to = vm_.threads[n++];
    bool const same = to.tid.load() == look.tid;
    if (!same || to.exits.load() != look.exits) to.progress_ns.store(now, std::memory_order_relaxed);
    to.exits.store(look.exits, std::memory_order_relaxed);
    to.cpu_ns.store(look.cpu_ns, std::memory_order_relaxed);
    to.call.store(look.call, std::memory_order_relaxed);
    to.state.store(look.state, std::memory_order_relaxed);
    to.tid.store(look.tid, std::memory_order_release);
  }
  for (; n < kMaxThreads; ++n) vm_.threads[n].tid.store(0, std::memory_order_relaxed);
  vm_.thread_count.store(looks.size(), std::memory_order_relaxed);
  vm_.cpu_ns.store(cpu, std::memory_order_relaxed);
}

// On whatever thread ends the guest.
void Publisher::ended() {
  if (ended_.exchange(true)) return;
  auto const [code, signal] = process_->exit_outcome();
  vm_.stop_signal = stop_signal_of(*process_);
  vm_.exit_code = code, vm_.exit_signal = signal;
  vm_.memory_refused = process_->stats().memory_refused.load();
  vm_.faults = process_->stats().faults.load();
  uint64_t const now = now_ns();
  vm_.ended_ns = now;
  vm_.life = Life::kEnded;
  Verdict const verdict = judge_end(end_of(vm_), vm_.memory_refused.load() != 0);
  for (AppRecord& app : vm_.apps) {
    if (app.registered.load() == 1) publish(app.verdict, verdict, now);
  }
  registry_->ring();
}

void Publisher::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (auto& detector : detectors_) detector.reset();
}

void Publisher::finish() {
  if (process_ != nullptr) ended();
  stop();
  if (judge_end(end_of(vm_), false).failure == FailureClass::kStopped) Registry::deregister_vm(vm_);
  registry_->ring();
}

}  // namespace vmsrs::runtime::detect
