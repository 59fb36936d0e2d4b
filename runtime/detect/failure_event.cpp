#include "runtime/detect/failure_event.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/detect/proc.hpp"

namespace vmsrs::runtime::detect {

std::string to_json(FailureEvent const& event) {
  auto const now = std::chrono::system_clock::now().time_since_epoch();
  nlohmann::ordered_json json{{"time_ms", std::chrono::duration_cast<std::chrono::milliseconds>(now).count()},
                              {"layer", event.layer}};
  if (!event.vm.empty()) json["vm"] = event.vm;
  json["name"] = event.name;
  json["class"] = name_of(event.verdict.failure);
  json["cause"] = name_of(event.verdict.cause);
  json["evidence"] = event.verdict.evidence;
  json["before"] = name_of(event.before);
  json["noticed_ns"] = now_ns();
  json["detector"] = getpid();
  // What a shared page holds may be anything: text that is no UTF-8 is no reason to end.
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

vmm::Result<std::unique_ptr<EventLog>> EventLog::open(std::string const& file,
                                                      std::function<void(FailureEvent const&)> heard) {
  auto log = std::make_unique<EventLog>();
  log->heard_ = std::move(heard);
  log->to_stdout_ = file == "-";
  if (file.empty() || log->to_stdout_) return log;
  log->file_.open(file, std::ios::app);
  if (!log->file_) {
    return vmm::fail(vmm::Errc::kBadOption, fmt::format("--events {}: {}", file, std::strerror(errno)), errno);
  }
  return log;
}

void EventLog::say(FailureEvent const& event) {
  std::lock_guard lock(mutex_);
  if (heard_) heard_(event);
  if (!to_stdout_ && !file_.is_open()) return;
  std::string const line = to_json(event) + "\n";
  if (to_stdout_) {
    std::fputs(line.c_str(), stdout);
    std::fflush(stdout);
  } else {
    file_ << line << std::flush;
  }
}

}  // namespace vmsrs::runtime::detect
