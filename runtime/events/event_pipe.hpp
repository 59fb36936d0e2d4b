// Events on their way to another process: one JSON object a line.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/events/event.hpp"

namespace vmsrs::runtime::events {

std::string to_line(Event const& event);
std::optional<Event> from_line(std::string_view line);

// Thread-safe. What cannot be written is dropped: the reader is gone.
class EventPipe {
 public:
  explicit EventPipe(int fd) : fd_(fd) {}  // negative: nowhere; not owned
  void send(Event const& event);

 private:
  int fd_;
  std::mutex mutex_;
};

// Reads lines until the writers are gone; blocks.
void read_events(int fd, std::function<void(Event)> const& on_event);

}  // namespace vmsrs::runtime::events
