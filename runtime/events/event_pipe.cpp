#include "runtime/events/event_pipe.hpp"

#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

namespace vmsrs::runtime::events {
namespace {
constexpr size_t kLongestLine = 64 * 1024;
}

std::string to_line(Event const& event) {
  nlohmann::json const line = {{"event", name_of(event.kind)},
                               {"priority", static_cast<int>(event.priority)},
                               {"subject", event.subject},
                               {"detail", event.detail},
                               {"value", event.value}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::optional<Event> from_line(std::string_view line) {
  auto const json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  auto const text = [&](char const* name) {
    auto const found = json.find(name);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  auto const number = [&](char const* name) {
    auto const found = json.find(name);
    return found != json.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
  };
  Event event;
  auto const kind = kind_of(text("event"));
  if (!kind) return std::nullopt;
  event.kind = *kind;
  int64_t const priority = number("priority");
  if (priority < 0 || priority > static_cast<int64_t>(Priority::kLow)) return std::nullopt;
  event.priority = static_cast<Priority>(priority);
  event.subject = text("subject");
  event.detail = text("detail");
  event.value = number("value");
  return event;
}

void EventPipe::send(Event const& event) {
  if (fd_ < 0) return;
  std::string const line = to_line(event);
  std::lock_guard const guard(mutex_);
  for (size_t done = 0; done < line.size();) {
    ssize_t const n = write(fd_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}

void read_events(int fd, std::function<void(Event)> const& on_event) {
  std::string text;
  char buffer[4096];
  for (;;) {
    ssize_t const n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.append(buffer, static_cast<size_t>(n));
    for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
      if (auto event = from_line(std::string_view(text).substr(0, end))) on_event(std::move(*event));
    }
    if (text.size() > kLongestLine) text.clear();
  }
}

}  // namespace vmsrs::runtime::events
