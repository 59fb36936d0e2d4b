#include "runtime/detect/detector.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <climits>
#include <ctime>

#include "runtime/detect/publisher.hpp"

namespace vmsrs::runtime::detect {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kConfirmMs = 250;       // a heartbeat that is overdue is looked at again, so much later
constexpr uint64_t kSlackMs = 20;          // behind a deadline, so that one look serves several
constexpr uint64_t kAppDetectorMs = 5000;  // without a beat of its own, while its VM beats
constexpr int kListenMs = 60'000;          // the doorbell's listener looks whether it is to end

uint64_t own_cpu_ns() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(used.tv_nsec);
}

}  // namespace

vmm::Result<std::unique_ptr<Detector>> Detector::create(DetectorOptions const& options,
                                                        std::function<void(FailureEvent const&)> heard) {
  std::unique_ptr<Detector> detector(new Detector(options));
  if (auto r = detector->set_up(std::move(heard)); !r) return tl::unexpected(r.error());
  return detector;
}

vmm::Result<void> Detector::set_up(std::function<void(FailureEvent const&)> heard) {
  auto power = make_power_controller(options_.power);
  if (!power) return tl::unexpected(power.error());
  auto events = EventLog::open(options_.events, std::move(heard));
  if (!events) return tl::unexpected(events.error());
  events_ = std::move(*events);
  auto registry = Registry::open(options_.registry);
  if (!registry) return tl::unexpected(registry.error());
  registry_ = std::move(*registry);
  epoll_ = vmm::ScopedFd(epoll_create1(EPOLL_CLOEXEC));
  bell_ = vmm::ScopedFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  stop_ = vmm::ScopedFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_ || !bell_ || !stop_) return vmm::fail_host("epoll_create1, eventfd");
  for (int const fd : {bell_.get(), stop_.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return vmm::fail_host("epoll_ctl");
  }
  roles_ = std::make_unique<Roles>(registry_->layout().roles, own_process_id(), options_.lease_ms, is_alive);
  if (auto r = roles_->join(now_ns()); !r) return r;
  if (auto r = set_up_hosts(std::move(*power)); !r) return r;
  registry_->layout().listening.fetch_add(1);
  listener_ = std::thread([this] { listen(); });
  registry_->ring();  // a master that was alone beats for this one from now on
  return {};
}

vmm::Result<void> Detector::set_up_hosts(std::unique_ptr<PowerController> power) {
  if (!options_.coordinator.empty()) {
    auto const say = [this](ClusterRoles::Change const& change) {
      if (change.predecessor_lost) {
        events_->say({"detector",
                      "",
                      "master of the hosts",
                      {FailureClass::kNoResponse, Cause::kDetectorSilent, "its lease ran out"},
                      FailureClass::kHealthy});
      }
      events_->say({"detector",
                    "",
                    fmt::format("{} of the hosts {}", name_of(change.role), getpid()),
                    {FailureClass::kHealthy, Cause::kNone, fmt::format("term {}", change.term)},
                    FailureClass::kHealthy});
    };
    auto cluster = ClusterRoles::create(
        options_.coordinator, options_.lease_ms, [this] { return roles_->is_master(); }, say);
    if (!cluster) return tl::unexpected(cluster.error());
    cluster_ = std::move(*cluster);
  }
  if (!options_.hosts.hosts.empty()) {
    if (options_.hosts.hosts.size() > kMaxHosts) {
      return vmm::fail(vmm::Errc::kBadOption, fmt::format("--host: {} at most", kMaxHosts));
    }
    auto pinger = Pinger::open();
    if (!pinger) return tl::unexpected(pinger.error());
    hosts_ = std::make_unique<HostDetector>(
        options_.hosts, std::move(*pinger), std::move(power), registry_->layout(), *events_,
        [this] { return roles_->is_master() && (cluster_ == nullptr || cluster_->is_master()); });
  }
  return {};
}

Detector::~Detector() {
  hosts_.reset();
  cluster_.reset();
  roles_.reset();
  if (listener_.joinable()) {
    stopping_ = true;
    // The listener may be on its way into its wait: it is rung for until it is gone.
    registry_->ring();
    listener_.join();
    registry_->layout().listening.fetch_sub(1);
    registry_->ring();
  }
}

void Detector::stop() noexcept {
  stopping_ = true;
  eventfd_write(stop_.get(), 1);
}

// The doorbell is a futex; epoll wants a descriptor.
void Detector::listen() {
  pthread_setname_np(pthread_self(), "doorbell");
  uint32_t seen = registry_->layout().doorbell.load();
  while (!stopping_.load()) {
    uint32_t const now = registry_->wait(seen, kListenMs);
    if (now != seen) eventfd_write(bell_.get(), 1);
    seen = now;
  }
}

void Detector::run() {
  ask_for_promptness();
  step_roles(now_ns());
  while (!stopping_.load()) {
    uint64_t const now = now_ns();
    if (now >= next_sweep_ns_) sweep(now);
    if (now >= next_step_ns_) step_roles(now);
    uint64_t until = std::min({next_sweep_ns_, next_step_ns_, next_confirm_ns_});
    if (options_.period.by_deadline()) until = std::min(until, next_look_ns_);
    wait(until);
    uint64_t const woken = now_ns();
    bool const confirm = woken >= next_confirm_ns_;
    if (confirm) next_confirm_ns_ = UINT64_MAX;
    if (confirm || (options_.period.by_deadline() && woken >= next_look_ns_)) {
      look(woken, woken > until ? woken - until : 0);
    }
  }
}

void Detector::wait(uint64_t until_ns) {
  uint64_t const now = now_ns();
  uint64_t const left = until_ns > now ? until_ns - now : 0;
  timespec const limit{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
  std::array<epoll_event, 16> events;
  int const n = epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()), &limit, nullptr);
  if (n <= 0) return;
  bool rung = false, detector_gone = false;
  for (int i = 0; i < n; ++i) {
    int const fd = events[static_cast<size_t>(i)].data.fd;
    eventfd_t count = 0;
    if (fd == bell_.get()) {
      eventfd_read(fd, &count);
      rung = true;
    } else if (fd != stop_.get()) {
      // A process ended. Its descriptor stays readable: what is known of it is written down, and it is let go.
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
      for (auto& [index, vm] : vms_) {
        if (vm.process.get() != fd) continue;
        vm.process = vmm::ScopedFd();
        rung = true;
        break;
      }
      detector_gone |= std::erase_if(detectors_, [fd](auto const& d) { return d.second.get() == fd; }) != 0;
    }
  }
  if (detector_gone || rung) step_roles(now_ns());
  if (rung) scan();
}

// Roles, and the losses that they bring to light.
void Detector::step_roles(uint64_t now) {
  auto const step = roles_->step(now);
  for (auto const& loss : step.losses) {
    events_->say({"detector", "", fmt::format("{} {}", name_of(loss.role), pid_of(loss.who)), loss.verdict,
                  FailureClass::kHealthy});
  }
  if (step.changed) {
    events_->say(
        {"detector",
         "",
         fmt::format("{} {}", name_of(step.role), getpid()),
         {FailureClass::kHealthy, Cause::kNone, fmt::format("is {} of epoch {}", name_of(step.role), roles_->epoch())},
         FailureClass::kHealthy});
    // The others' next step need not wait for their clocks.
    registry_->ring();
    if (step.role == Role::kMaster) next_sweep_ns_ = 0;
    if (step.role != Role::kMaster) vms_.clear();  // another's now, who meets them anew
  }
  watch_detectors();
  // Alone: nobody waits for the beat, which costs a wake.
  next_step_ns_ = roles_->others().empty() ? UINT64_MAX : now + options_.lease_ms * kMs / 4;
}

void Detector::watch_detectors() {
  auto const others = roles_->others();
  std::erase_if(detectors_, [&](auto const& d) { return std::ranges::find(others, d.first) == others.end(); });
  for (ProcessId const other : others) {
    if (detectors_.contains(other)) continue;
    auto process = open_process(other);
    if (!process) continue;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = process->get();
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, process->get(), &event) == 0) {
      detectors_.emplace(other, std::move(*process));
    }
  }
}

void Detector::sweep(uint64_t now) {
  if (auto const use = cpu_.use()) forecast_.measured(*use);
  double const seconds = options_.period.seconds(forecast_.forecast());
  uint64_t const planned = next_sweep_ns_;
  next_sweep_ns_ = now + static_cast<uint64_t>(seconds * 1e9);
  DetectorSeat& seat = roles_->seat();
  seat.beat_ns = now;
  seat.period_us = static_cast<uint64_t>(seconds * 1e6);
  seat.predicted_ppm = static_cast<uint64_t>(forecast_.forecast() * 1e6);
  seat.sweeps.fetch_add(1);
  scan();
  look(now, planned != 0 && now > planned ? now - planned : 0);
  seat.cpu_ns = own_cpu_ns();
}

// What is in the registry: who came, who went, what the applications' detectors say.
void Detector::scan() {
  if (roles_->role() != Role::kMaster) return;
  uint64_t const now = now_ns();
  auto& slots = registry_->layout().vms;
  for (unsigned i = 0; i < kMaxVms; ++i) {
    ProcessId const owner = slots[i].owner.load();
    auto const known = vms_.find(i);
    if (known != vms_.end() && known->second.owner != owner) {
      forget(i);
    } else if (known != vms_.end()) {
      judge(i, now, 0);
      continue;
    }
    if (owner == 0 || slots[i].life.load() == Life::kNone) continue;
    meet(i, owner);
    judge(i, now, 0);
  }
}

void Detector::meet(unsigned index, ProcessId owner) {
  VmRecord& vm = registry_->layout().vms[index];
  Watched watched;
  watched.owner = owner;
  watched.name = vm.name.get();
  if (auto process = open_process(owner)) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = process->get();
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, process->get(), &event) == 0) watched.process = std::move(*process);
  }
  // What another master has found already is no news.
  Verdict const before = read(vm.verdict);
  watched.told = before.failure;
  watched.ended = before.failure == FailureClass::kCrashStop;
  vms_.insert_or_assign(index, std::move(watched));
}

// Its owner gave the slot back, or somebody else has it.
void Detector::forget(unsigned index) {
  auto const known = vms_.find(index);
  if (!known->second.ended && known->second.told != FailureClass::kStopped) {
    VmRecord& vm = registry_->layout().vms[index];
    Verdict verdict{FailureClass::kStopped, Cause::kOperator, "gave its place back"};
    if (vm.left.load() != known->second.owner) {
      verdict = {FailureClass::kCrashStop, Cause::kVmLost, "the monitor is gone without a word; another has its place"};
    } else if (vm.owner.load() == 0) {
      // The record still tells of the one that left.
      EndOfRun end = end_of(vm);
      end.ended = true;
      if (auto const v = judge_end(end, false); v.failure == FailureClass::kStopped) verdict = v;
    }
    events_->say({"vm", "", known->second.name, verdict, known->second.told});
  }
  vms_.erase(known);
}

void Detector::tell_vm(unsigned index, Verdict const& verdict, uint64_t now) {
  Watched& watched = vms_.at(index);
  if (!roles_->is_master()) return;
  publish(registry_->layout().vms[index].verdict, verdict, now);
  FailureClass const before = std::exchange(watched.told, verdict.failure);
  if (before == verdict.failure) return;
  events_->say({"vm", "", watched.name, verdict, before});
}

void Detector::judge(unsigned index, uint64_t now, uint64_t late_ns) {
  Watched& watched = vms_.at(index);
  VmRecord& vm = registry_->layout().vms[index];
  if (watched.ended || !roles_->is_master()) return;
  VmEvidence evidence;
  evidence.end = end_of(vm);
  evidence.process_there = static_cast<bool>(watched.process);
  if (!evidence.process_there) evidence.end = end_of(vm);  // written before it went
  uint64_t const beat = vm.beat_ns.load(std::memory_order_acquire);
  evidence.beat_age_ms = now > beat ? (now - beat) / kMs : 0;
  evidence.timeout_ms = options_.vm_timeout_ms;
  evidence.late_ms = late_ns / kMs;
  if (evidence.beat_age_ms > evidence.timeout_ms && evidence.process_there) {
    auto const state = process_state(pid_of(watched.owner));
    evidence.process_state = state ? state->state : '?';
    // It ended meanwhile: its descriptor says so at once.
    if (!state || state->state == 'Z' || state->state == 'X') return;
    // A whole process that is stopped, or else what became of the thread that beats.
    if (state->state != 'T' && state->state != 't') {
      evidence.process_state = thread_state(pid_of(watched.owner), vm.beat_tid.load());
    }
  }
  if (vm.owner.load() != watched.owner) return;  // it left while we looked
  // A host that stood still as a whole, or whose processors are very full, delays the beat as it does this look: the
  // monitor gets a moment with this detector awake in which to beat. One that is stopped cannot use it.
  if (evidence.beat_age_ms > evidence.timeout_ms && evidence.process_there && !evidence.end.ended &&
      evidence.process_state != 'T' && evidence.process_state != 't') {
    if (watched.overdue_ns == 0 || watched.overdue_beat != beat) {
      watched.overdue_ns = now, watched.overdue_beat = beat;
      next_confirm_ns_ = std::min(next_confirm_ns_, now + kConfirmMs * kMs);
      return;
    }
    if (now < watched.overdue_ns + kConfirmMs * kMs) return;
  } else {
    watched.overdue_ns = 0;
  }
  Verdict const verdict = judge_vm(evidence);
  watched.ended = evidence.end.ended || !evidence.process_there;
  if (verdict.failure == FailureClass::kCrashStop) {
    // Nobody else writes there any more. The VM's event says it; one for each application would say the same again.
    for (AppRecord& app : vm.apps) {
      if (app.registered.load() == 1) publish(app.verdict, {verdict.failure, verdict.cause, "lost with its VM"}, now);
    }
  } else {
    judge_apps(index, now, verdict.failure == FailureClass::kHealthy);
  }
  tell_vm(index, verdict, now);
}

void Detector::judge_apps(unsigned index, uint64_t now, bool vm_well) {
  Watched& watched = vms_.at(index);
  VmRecord& vm = registry_->layout().vms[index];
  for (unsigned i = 0; i < kMaxApps; ++i) {
    AppRecord& app = vm.apps[i];
    Verdict& told = watched.apps[i];
    FailureClass& detector_told = watched.app_detectors[i];
    if (app.registered.load() != 1) {
      if (told.failure == FailureClass::kHealthy || told.failure == FailureClass::kNoResponse) {
        events_->say({"application",
                      watched.name,
                      app.name.get(),
                      {FailureClass::kStopped, Cause::kOperator, "deregistered"},
                      told.failure});
      }
      told = {};
      detector_told = FailureClass::kUnknown;
      continue;
    }
    Verdict const verdict = read(app.verdict);
    if (verdict.failure != FailureClass::kUnknown && !verdict.same(told) && roles_->is_master()) {
      events_->say({"application", watched.name, app.name.get(), verdict, told.failure});
      told = verdict;
    }
    // The application's detector, by the layer below: only where the VM itself beats.
    uint64_t const beat = app.beat_ns.load();
    if (!vm_well || beat == 0) continue;
    DetectorEvidence evidence;
    evidence.beat_age_ms = now > beat ? (now - beat) / kMs : 0;
    evidence.timeout_ms = kAppDetectorMs;
    Verdict const of_detector = judge_detector(evidence);
    if (of_detector.failed() != (detector_told == FailureClass::kNoResponse)) {
      events_->say({"detector", watched.name, "of " + app.name.get(), of_detector, detector_told});
    }
    detector_told = of_detector.failure;
  }
}

void Detector::look(uint64_t now, uint64_t late_ns) {
  roles_->seat().looks.fetch_add(1);
  uint64_t next = UINT64_MAX;
  uint64_t const limit = (options_.vm_timeout_ms + kSlackMs) * kMs;
  std::vector<unsigned> all;
  for (auto const& [index, vm] : vms_) {
    if (!vm.ended) all.push_back(index);
  }
  for (unsigned const index : all) {
    judge(index, now, late_ns);
    uint64_t const beat = registry_->layout().vms[index].beat_ns.load();
    // Silent already: its next beat is looked for at its time-out's pace.
    next = std::min(next, std::max(beat + limit, now + limit / 4));
  }
  next_look_ns_ = next;
}

}  // namespace vmsrs::runtime::detect
