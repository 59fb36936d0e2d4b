#include "runtime/events/event_queue.hpp"

#include <algorithm>
#include <utility>

namespace vmsrs::runtime::events {

std::string_view name_of(Kind kind) {
  switch (kind) {
    case Kind::kPartEnded:
      return "part_ended";
    case Kind::kLeaseExpired:
      return "lease_expired";
    case Kind::kBackupReady:
      return "backup_ready";
    case Kind::kBackupLost:
      return "backup_lost";
    case Kind::kRequestFaulted:
      return "request_faulted";
    case Kind::kFaultOutsideScope:
      return "fault_outside_scope";
    case Kind::kRepeatedFaults:
      return "repeated_faults";
    case Kind::kStuckLock:
      return "stuck_lock";
    case Kind::kApplicationEnded:
      return "application_ended";
    case Kind::kTookOver:
      return "took_over";
    case Kind::kActionDone:
      return "action_done";
    case Kind::kActionFailed:
      return "action_failed";
    case Kind::kAskedToEnd:
      return "asked_to_end";
    case Kind::kEpochLength:
      return "epoch_length";
  }
  return "unknown";
}

std::optional<Kind> kind_of(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(kLastKind); ++i) {
    if (name_of(static_cast<Kind>(i)) == name) return static_cast<Kind>(i);
  }
  return std::nullopt;
}

uint64_t EventQueue::push(Event event) {
  std::lock_guard const guard(mutex_);
  if (closed_) return 0;
  event.id = next_++;
  uint64_t const id = event.id;
  events_.insert(std::move(event));
  changed_.notify_one();
  return id;
}

std::optional<Event> EventQueue::pop(Clock::time_point until) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (closed_) return std::nullopt;
    auto const now = Clock::now();
    auto const first = std::find_if(events_.begin(), events_.end(), [now](Event const& e) { return e.due <= now; });
    if (first != events_.end()) return std::move(events_.extract(first).value());
    if (now >= until) return std::nullopt;
    auto wake = until;
    for (Event const& event : events_) wake = std::min(wake, event.due);
    if (wake == Clock::time_point::max()) {
      changed_.wait(lock);
    } else {
      changed_.wait_until(lock, wake);
    }
  }
}

void EventQueue::close() {
  std::lock_guard const guard(mutex_);
  closed_ = true;
  changed_.notify_all();
}

size_t EventQueue::size() const {
  std::lock_guard const guard(mutex_);
  return events_.size();
}

}  // namespace vmsrs::runtime::events
