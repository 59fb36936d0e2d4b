// What is said of an instance, and why: pure functions from evidence to a verdict (paper 000, formulas 3 to 5, refined
// by what the monitor knows of its guest).
//
//   crash-stop (SF)    it no longer runs
//   no response (NRF)  it is there and does not answer
//   stopped            its operator wanted that: no failure
//
// Local evidence comes first (an exit, a lock that nobody can release); a time-out is the last resort. An answer within
// its time is healthy, however busy the machine is.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/detect/status_page.hpp"

namespace vmsrs::runtime::detect {

enum class FailureClass : uint32_t { kUnknown, kHealthy, kStopped, kCrashStop, kNoResponse };
enum class Cause : uint32_t {
  kNone,
  kOperator,        // stopped: the operator's record says so, or a signal from outside asked for it
  kFinished,        // stopped: a program that is no service ended with status 0
  kExit,            // the process ended by itself
  kSignal,          // the process died of a signal
  kMemory,          // memory was refused to it
  kDeadlock,        // threads wait for locks that cannot be released
  kSpinning,        // a thread computes and makes no call
  kDescriptors,     // it has no file descriptor left
  kConnections,     // its queue of connections is full
  kHalfOpen,        // the connection stands, but what is sent on it is not acknowledged
  kRefused,         // nobody listens
  kSilent,          // no answer in time, and no evidence why
  kVmLost,          // the monitor is gone without a word
  kSuspended,       // the monitor is stopped (SIGSTOP, a debugger)
  kStarved,         // the monitor wants to run and does not get a processor
  kHung,            // the monitor sleeps and does not beat
  kPowerOff,        // the host is off
  kUnreachable,     // the host has power and does not answer
  kDetectorLost,    // the detector of that layer is gone
  kDetectorSilent,  // the detector of that layer is there and does not beat
};
inline constexpr unsigned kCauses = static_cast<unsigned>(Cause::kDetectorSilent) + 1;

struct Verdict {
  FailureClass failure = FailureClass::kUnknown;
  Cause cause = Cause::kNone;
  std::string evidence;  // for a person; no newline
  [[nodiscard]] bool failed() const {
    return failure == FailureClass::kCrashStop || failure == FailureClass::kNoResponse;
  }
  [[nodiscard]] bool same(Verdict const& other) const { return failure == other.failure && cause == other.cause; }
};

char const* name_of(FailureClass failure);  // "unknown", "healthy", "stopped", "SF", "NRF"
char const* name_of(Cause cause);           // "none", "deadlock", "power-off"…

// How a guest ended, as far as it did.
struct EndOfRun {
  bool ended = false;
  int code = 0;
  int signal = 0;            // != 0: died of it
  bool wanted = false;       // the operator's record says stop
  uint32_t stop_signal = 0;  // the last signal from outside that asks for an end; 0: none
  bool service = false;      // an end with status 0 is a failure too
};
// Of an end only: stopped (operator, finished) or SF (exit, signal, memory).
Verdict judge_end(EndOfRun const& end, bool memory_refused);

enum class ProbeOutcome : uint8_t { kNone, kAnswered, kNoAnswer, kRefused };

struct AppEvidence {
  EndOfRun end;
  bool ever_answered = false;  // before that, silence is its start
  bool start_over = false;     // the time for a start is over
  ProbeOutcome probe = ProbeOutcome::kNone;
  uint64_t waited_ms = 0;       // for the answer
  bool unacknowledged = false;  // what the probe sent was not acknowledged by the other side's TCP
  bool queue_full = false;      // of the listening socket
  std::string lock_cycle;       // who waits for whom; empty: no proof
  bool all_blocked = false;     // each thread waits without a limit of time for another one's word
  std::string spinning;         // which thread; empty: none
  bool memory_refused = false;  // since the last answer
  bool fds_refused = false;     // likewise
};
Verdict judge_app(AppEvidence const& evidence);

struct VmEvidence {
  EndOfRun end;               // what the monitor wrote down of its guest
  bool process_there = true;  // the monitor
  char process_state = '?';   // as /proc has it: T of the process, or that of the thread that beats
  uint64_t beat_age_ms = 0, timeout_ms = 0;
  uint64_t late_ms = 0;  // by how much the detector itself got its processor too late: not the VM's fault
};
Verdict judge_vm(VmEvidence const& evidence);

enum class Power : uint8_t { kUnknown, kOn, kOff };
struct HostEvidence {
  bool answered = true;  // ICMP echo, within its time
  uint64_t waited_ms = 0;
  Power power = Power::kUnknown;
};
Verdict judge_host(HostEvidence const& evidence);

// A detector, by the layer below it.
struct DetectorEvidence {
  bool there = true;
  uint64_t beat_age_ms = 0, timeout_ms = 0;
};
Verdict judge_detector(DetectorEvidence const& evidence);

// Sets a shared verdict; true: class or cause changed.
bool publish(SharedVerdict& to, Verdict const& verdict, uint64_t now_ns);
Verdict read(SharedVerdict const& from);

}  // namespace vmsrs::runtime::detect
