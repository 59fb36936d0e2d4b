// The one queue: by priority, among equals by time, among those by arrival. An event whose time has not come holds up
// nobody. Thread-safe.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>

#include "runtime/events/event.hpp"

namespace vmsrs::runtime::events {

class EventQueue {
 public:
  // The number that the event got. After close() events are dropped and 0 comes back.
  uint64_t push(Event event);
  // Waits for the first event that is due, until `until` at most; nothing: that time came, or close() was called.
  std::optional<Event> pop(Clock::time_point until = Clock::time_point::max());
  // Nobody waits any more.
  void close();
  [[nodiscard]] size_t size() const;

 private:
  struct Before {
    bool operator()(Event const& a, Event const& b) const {
      if (a.priority != b.priority) return a.priority < b.priority;
      if (a.due != b.due) return a.due < b.due;
      return a.id < b.id;
    }
  };
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::set<Event, Before> events_;
  uint64_t next_ = 1;
  bool closed_ = false;
};

}  // namespace vmsrs::runtime::events
