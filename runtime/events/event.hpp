// What was noticed, as one value: where it happened, how urgent it is, and which event led to it.
//
// The structure is that of a fault detection and recovery system driven by events: sensing makes events, policies turn
// them into decisions, executors act; all of it passes through one queue (events/spine.hpp).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vmsrs::runtime::events {

using Clock = std::chrono::steady_clock;

enum class Kind : uint8_t {
  kPartEnded,          // a process of the protected server ended; detail: how
  kLeaseExpired,       // nobody renewed the primary's lease
  kBackupReady,        // a backup holds a complete epoch
  kBackupLost,         // the primary has no backup any more
  kRequestFaulted,     // recovery contained a fault within its scope
  kFaultOutsideScope,  // a fault that no scope contained
  kRepeatedFaults,     // too many contained faults within a time
  kStuckLock,          // a lock whose holder is gone or hangs
  kApplicationEnded,   // the guest program ended; detail: its status
  kTookOver,           // a backup goes on as primary
  kActionDone,         // an executor finished; detail: which decision
  kActionFailed,       // an executor could not; detail: why
  kAskedToEnd,         // somebody asked the whole to end
  kEpochLength,        // the forecast asks for epochs of another length; value: milliseconds
};
inline constexpr Kind kLastKind = Kind::kEpochLength;

enum class Priority : uint8_t { kUrgent, kHigh, kNormal, kLow };  // in the order in which they are served

struct Event {
  Kind kind = Kind::kPartEnded;
  Priority priority = Priority::kNormal;
  Clock::time_point due{};  // not before; the default: at once
  std::string subject;      // the part concerned: "primary", "backup", "gateway", "guest"
  std::string detail;       // for a person
  int64_t value = 0;        // a number that belongs to the kind: an exit status, a term
  uint64_t id = 0;          // given by the queue, from 1
  uint64_t cause = 0;       // the event that led to this one; 0: none
};

std::string_view name_of(Kind kind);
std::optional<Kind> kind_of(std::string_view name);

}  // namespace vmsrs::runtime::events
