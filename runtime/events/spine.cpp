#include "runtime/events/spine.hpp"

#include <nlohmann/json.hpp>

namespace vmsrs::runtime::events {

std::string_view name_of(Action action) {
  switch (action) {
    case Action::kFailOver:
      return "fail_over";
    case Action::kStartBackup:
      return "start_backup";
    case Action::kRestart:
      return "restart";
    case Action::kEnd:
      return "end";
    case Action::kReport:
      return "report";
  }
  return "unknown";
}

void Spine::run(Clock::time_point until) {
  while (auto event = queue_.pop(until)) serve(*event);
}

void Spine::serve(Event const& event) {
  std::vector<Decision> decisions;
  for (auto const& policy : policies_) {
    decisions = policy->decide(event);
    if (!decisions.empty()) break;
  }
  if (decisions.empty()) log(event, nullptr);
  for (Decision const& decision : decisions) {
    // Before the act: an act may be the last thing that this process does.
    log(event, &decision);
    auto const executor = executors_.find(decision.action);
    if (executor == executors_.end()) continue;
    auto const error = executor->second(decision, event);
    Event outcome;
    outcome.kind = error ? Kind::kActionFailed : Kind::kActionDone;
    outcome.priority = error ? Priority::kHigh : Priority::kLow;
    outcome.subject = decision.target;
    outcome.detail = std::string(name_of(decision.action)) + (error ? ": " + *error : "");
    outcome.value = static_cast<int64_t>(decision.action);
    outcome.cause = event.id;
    post(std::move(outcome));
  }
}

void Spine::log(Event const& event, Decision const* decision) {
  if (log_ == nullptr) return;
  auto const now = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch()).count();
  nlohmann::json line = {
      {"time_ms", now},           {"event", name_of(event.kind)},
      {"id", event.id},           {"cause", event.cause},
      {"subject", event.subject}, {"detail", event.detail},
      {"value", event.value},     {"decision", decision == nullptr ? "none" : name_of(decision->action)}};
  if (decision != nullptr) {
    line["target"] = decision->target;
    line["reason"] = decision->reason;
  }
  // What a guest or a peer said may be no UTF-8.
  *log_ << line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
}

}  // namespace vmsrs::runtime::events
