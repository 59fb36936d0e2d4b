#include "runtime/detect/verdict.hpp"

#include <fmt/format.h>

#include <array>
#include <csignal>

namespace vmsrs::runtime::detect {
namespace {

constexpr std::array<char const*, 5> kClasses{"unknown", "healthy", "stopped", "SF", "NRF"};
constexpr std::array<char const*, kCauses> kCauseNames{
    "none",      "operator",    "finished",    "exit",      "signal",      "memory",        "deadlock",
    "spinning",  "descriptors", "connections", "half-open", "refused",     "silent",        "vm-lost",
    "suspended", "starved",     "hung",        "power-off", "unreachable", "detector-lost", "detector-silent"};

bool asks_for_end(uint32_t signal) {
  return signal == SIGTERM || signal == SIGINT || signal == SIGQUIT || signal == SIGHUP;
}

std::string text_of(EndOfRun const& end) {
  if (end.signal != 0) return fmt::format("died of signal {} ({})", end.signal, strsignal(end.signal));
  return fmt::format("ended with status {}", end.code);
}

}  // namespace

char const* name_of(FailureClass failure) {
  auto const at = static_cast<size_t>(failure);
  return at < kClasses.size() ? kClasses[at] : "damaged";
}

char const* name_of(Cause cause) {
  auto const at = static_cast<size_t>(cause);
  return at < kCauseNames.size() ? kCauseNames[at] : "damaged";
}

Verdict judge_end(EndOfRun const& end, bool memory_refused) {
  std::string const how = text_of(end);
  if (end.wanted) return {FailureClass::kStopped, Cause::kOperator, how + " after the operator's stop"};
  // A signal that was sent to end it explains an orderly end, and death by that signal; a crash on the way it does not.
  bool const asked = asks_for_end(end.stop_signal);
  if (asked && (end.signal == 0 || static_cast<uint32_t>(end.signal) == end.stop_signal)) {
    return {FailureClass::kStopped, Cause::kOperator, fmt::format("{}, asked by signal {}", how, end.stop_signal)};
  }
  if (end.signal == 0 && end.code == 0 && !end.service) return {FailureClass::kStopped, Cause::kFinished, how};
  if (memory_refused) return {FailureClass::kCrashStop, Cause::kMemory, how + " after memory was refused to it"};
  return {FailureClass::kCrashStop, end.signal != 0 ? Cause::kSignal : Cause::kExit, how};
}

Verdict judge_app(AppEvidence const& e) {
  if (e.end.ended) return judge_end(e.end, e.memory_refused);
  auto const no_response = [](Cause cause, std::string why) {
    return Verdict{FailureClass::kNoResponse, cause, std::move(why)};
  };
  if (e.probe == ProbeOutcome::kAnswered) {
    Verdict healthy{FailureClass::kHealthy, Cause::kNone, fmt::format("answered in {} ms", e.waited_ms)};
    if (!e.lock_cycle.empty()) healthy.evidence += ", but " + e.lock_cycle;
    return healthy;
  }
  bool const asked = e.probe != ProbeOutcome::kNone;
  if (!e.lock_cycle.empty()) return no_response(Cause::kDeadlock, e.lock_cycle);
  if (!asked) return {FailureClass::kHealthy, Cause::kNone, "runs; nobody asks it"};
  if (e.end.wanted || asks_for_end(e.end.stop_signal)) {
    return {FailureClass::kStopped, Cause::kOperator, "was asked to end"};
  }
  if (!e.ever_answered && !e.start_over) return {FailureClass::kUnknown, Cause::kNone, "starts: no answer yet"};
  std::string const silent = fmt::format("no answer in {} ms", e.waited_ms);
  if (e.memory_refused) return no_response(Cause::kMemory, silent + ", memory was refused to it");
  if (e.fds_refused) return no_response(Cause::kDescriptors, silent + ", descriptors were refused to it");
  if (e.unacknowledged) return no_response(Cause::kHalfOpen, silent + ", what was sent is not acknowledged");
  if (!e.spinning.empty()) return no_response(Cause::kSpinning, silent + ", " + e.spinning);
  if (e.all_blocked) return no_response(Cause::kDeadlock, silent + ", each thread waits for another");
  if (e.queue_full) return no_response(Cause::kConnections, silent + ", its queue of connections is full");
  if (e.probe == ProbeOutcome::kRefused) return no_response(Cause::kRefused, "nobody listens");
  return no_response(Cause::kSilent, silent);
}

Verdict judge_vm(VmEvidence const& e) {
  if (e.end.ended) {
    // The guest's end is the application's matter; the VM went with it in an orderly way.
    Verdict const of_program = judge_end(e.end, false);
    bool const asked = of_program.cause == Cause::kOperator;
    return {FailureClass::kStopped, asked ? Cause::kOperator : Cause::kFinished, "its program " + of_program.evidence};
  }
  if (!e.process_there) {
    if (e.end.wanted) return {FailureClass::kStopped, Cause::kOperator, "was asked to end and is gone"};
    return {FailureClass::kCrashStop, Cause::kVmLost, "the monitor is gone without a word"};
  }
  if (e.beat_age_ms <= e.timeout_ms + e.late_ms) return {FailureClass::kHealthy, Cause::kNone, "beats"};
  std::string const silent = fmt::format("no heartbeat for {} ms", e.beat_age_ms);
  switch (e.process_state) {
    case 'T':
    case 't':
      return {FailureClass::kNoResponse, Cause::kSuspended, silent + ", the monitor is stopped"};
    case 'R':
      return {FailureClass::kNoResponse, Cause::kStarved, silent + ", the monitor is ready to run"};
    default:
      return {FailureClass::kNoResponse, Cause::kHung,
              fmt::format("{}, the monitor's state is {}", silent, e.process_state)};
  }
}

Verdict judge_host(HostEvidence const& e) {
  if (e.answered) return {FailureClass::kHealthy, Cause::kNone, "answers"};
  std::string const silent = fmt::format("no ICMP answer in {} ms", e.waited_ms);
  switch (e.power) {
    case Power::kOff:
      return {FailureClass::kCrashStop, Cause::kPowerOff, silent + ", its power is off"};
    case Power::kOn:
      return {FailureClass::kNoResponse, Cause::kUnreachable, silent + ", its power is on"};
    case Power::kUnknown:
      return {FailureClass::kNoResponse, Cause::kUnreachable, silent + ", its power state is unknown"};
  }
  return {};
}

Verdict judge_detector(DetectorEvidence const& e) {
  if (!e.there) return {FailureClass::kCrashStop, Cause::kDetectorLost, "the detector is gone"};
  if (e.beat_age_ms <= e.timeout_ms) return {FailureClass::kHealthy, Cause::kNone, "beats"};
  return {FailureClass::kNoResponse, Cause::kDetectorSilent,
          fmt::format("the detector is there, no beat for {} ms", e.beat_age_ms)};
}

bool publish(SharedVerdict& to, Verdict const& verdict, uint64_t now_ns) {
  auto const failure = static_cast<uint32_t>(verdict.failure), cause = static_cast<uint32_t>(verdict.cause);
  bool const changed = to.failure.load() != failure || to.cause.load() != cause;
  if (!changed && !verdict.failed()) {
    // Healthy for long: the evidence's figures may differ, which is nobody's news.
    to.evidence.set(verdict.evidence);
    return false;
  }
  if (!changed) return false;
  to.evidence.set(verdict.evidence);
  to.since_ns.store(now_ns);
  to.cause.store(cause);
  to.failure.store(failure);
  return true;
}

Verdict read(SharedVerdict const& from) {
  return {static_cast<FailureClass>(from.failure.load()), static_cast<Cause>(from.cause.load()), from.evidence.get()};
}

}  // namespace vmsrs::runtime::detect
