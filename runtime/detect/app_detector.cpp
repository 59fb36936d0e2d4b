#include "runtime/detect/app_detector.hpp"

#include <pthread.h>

#include <algorithm>

#include "runtime/detect/guest_look.hpp"
#include "runtime/detect/probe.hpp"
#include "runtime/detect/proc.hpp"
#include "runtime/detect/publisher.hpp"

namespace vmsrs::runtime::detect {
namespace {

constexpr uint64_t kLookEachNs = 100'000'000;  // while an answer is waited for
constexpr uint64_t kLocalOnlyMs = 500;         // without a probe: between two looks
constexpr uint64_t kRetryMs = 50;              // after a refusal
constexpr uint64_t kMostPauseMs = 2000;        // between probes of one that does not answer

}  // namespace

AppDetector::AppDetector(Registry& registry, VmRecord& vm, AppRecord& app, vmm::Process& process)
    : registry_(registry), vm_(vm), app_(app), process_(process), thread_([this] { run(); }) {}

AppDetector::~AppDetector() {
  stopping_ = true;
  { std::lock_guard lock(mutex_); }
  wake_.notify_all();
  thread_.join();
}

bool AppDetector::over() const {
  return stopping_.load() || app_.registered.load() != 1 || vm_.life.load() == Life::kEnded;
}

bool AppDetector::pause(uint64_t ms) {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, std::chrono::milliseconds(ms), [this] { return stopping_.load(); });
  return !over();
}

void AppDetector::look() {
  uint64_t const now = now_ns();
  app_.beat_ns.store(now);
  if (now - looked_ns_ < kLookEachNs) return;
  graph_.look(look_at_threads(process_), looked_ns_ == 0 ? 0 : now - looked_ns_);
  looked_ns_ = now;
}

void AppDetector::settle(AppEvidence const& evidence) {
  if (over()) return;  // how it ended is written by whoever ended it
  Verdict const verdict = judge_app(evidence);
  Verdict const before = read(app_.verdict);
  // What an application looks like after some time without an answer is the consequence (the probes that wait in its
  // queue fill that), not the cause: the first finding stands until an answer, or a proof, comes.
  if (verdict.failure == FailureClass::kNoResponse && before.failure == FailureClass::kNoResponse &&
      verdict.cause != Cause::kDeadlock) {
    return;
  }
  bool const changed = publish(app_.verdict, verdict, now_ns());
  // It ended just now, and this wrote over what was said of that.
  EndOfRun const end = end_of(vm_);
  if (end.ended) publish(app_.verdict, judge_end(end, vm_.memory_refused.load() != 0), now_ns());
  if (changed) registry_.ring();
}

void AppDetector::without_probe() {
  do {
    look();
    AppEvidence evidence;
    evidence.end = end_of(vm_);
    evidence.lock_cycle = graph_.proven_cycle();
    settle(evidence);
  } while (pause(kLocalOnlyMs));
}

void AppDetector::run() {
  pthread_setname_np(pthread_self(), "app-detector");
  ask_for_promptness();
  std::string const url = app_.probe.get();
  if (url.empty()) return without_probe();
  auto const spec = ProbeSpec::parse(url);
  if (!spec) return settle({});  // checked when it was registered; somebody wrote over it
  Prober prober(*spec);
  uint64_t const started = now_ns();
  vmm::Stats const& stats = process_.stats();
  uint64_t memory_refused = 0, fds_refused = 0;
  uint64_t silent = 0;
  do {
    uint64_t const begin = now_ns();
    look();
    // Local evidence first: with a proven deadlock, the rest of the time-out is not waited for.
    auto const give_up = [this] {
      look();
      return over() || !graph_.proven_cycle().empty();
    };
    // A refusal or a closed connection is no answer, but its time is not over: a server may just start anew.
    uint64_t const limit_ms = app_.timeout_ms.load();
    ProbeResult result = prober.ask(limit_ms, give_up);
    bool unacknowledged = result.unacknowledged;
    for (uint64_t gone_ms = 0;
         result.kind == ProbeResult::Kind::kNoAnswer || result.kind == ProbeResult::Kind::kRefused;) {
      gone_ms = (now_ns() - begin) / 1'000'000;
      if (gone_ms + kRetryMs >= limit_ms || !pause(kRetryMs)) break;
      gone_ms = (now_ns() - begin) / 1'000'000;
      result = prober.ask(limit_ms > gone_ms ? limit_ms - gone_ms : 1, give_up);
      unacknowledged |= result.unacknowledged;
    }
    result.took_us = (now_ns() - begin) / 1000;
    app_.probes.fetch_add(1);
    AppEvidence evidence;
    evidence.end = end_of(vm_);
    if (uint32_t const signal = stop_signal_of(process_); signal != 0) evidence.end.stop_signal = signal;
    evidence.waited_ms = result.took_us / 1000;
    evidence.ever_answered = app_.answers.load() != 0;
    evidence.start_over = now_ns() - started > app_.start_ms.load() * 1'000'000ULL;
    evidence.lock_cycle = graph_.proven_cycle();
    if (result.kind == ProbeResult::Kind::kAnswered) {
      evidence.probe = ProbeOutcome::kAnswered;
      app_.answers.fetch_add(1);
      app_.answered_ns = now_ns();
      app_.answer_us = result.took_us;
      memory_refused = stats.memory_refused.load(), fds_refused = stats.fds_refused.load();
      silent = 0;
    } else {
      evidence.probe = result.kind == ProbeResult::Kind::kRefused ? ProbeOutcome::kRefused : ProbeOutcome::kNoAnswer;
      evidence.unacknowledged = unacknowledged;
      evidence.all_blocked = graph_.all_blocked();
      evidence.spinning = graph_.spinning();
      evidence.queue_full = accept_queue_full(spec->address);
      evidence.memory_refused = stats.memory_refused.load() != memory_refused;
      evidence.fds_refused = stats.fds_refused.load() != fds_refused;
      ++silent;
    }
    settle(evidence);
    uint64_t const took_ms = (now_ns() - begin) / 1'000'000, period = app_.period_ms.load();
    uint64_t const wanted = std::min(period << std::min<uint64_t>(silent, 4), std::max(period, kMostPauseMs));
    if (!pause(wanted > took_ms ? wanted - took_ms : std::min<uint64_t>(wanted, 20))) return;
  } while (true);
}

}  // namespace vmsrs::runtime::detect
