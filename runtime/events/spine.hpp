// From event to act: policies decide, executors act, and every decision is logged with its cause.
//
// A policy sees each event in turn; the first one that decides is heard. An executor's outcome comes back as an event
// (kActionDone, kActionFailed) whose cause is the event decided on, so that the log can be followed from an act back to
// what was noticed first.
//
// Log: one JSON object a line: {"time_ms", "event", "id", "cause", "subject", "detail", "value", "decision", "target",
// "reason"}; decision is "none" where no policy had an opinion.
//
// post() is thread-safe; everything else belongs to the thread that calls run().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <vector>

#include "runtime/events/event_queue.hpp"

namespace vmsrs::runtime::events {

enum class Action : uint8_t {
  kFailOver,     // fence the primary, let the backup take over
  kStartBackup,  // redundancy comes back
  kRestart,      // everything anew
  kEnd,          // end the whole; value: the exit status
  kReport,       // tell a person, do nothing
};
std::string_view name_of(Action action);

struct Decision {
  Action action = Action::kReport;
  std::string target;
  std::string reason;
  int64_t value = 0;
};

class Policy {
 public:
  virtual ~Policy() = default;
  // Several decisions are carried out in their order. None: no opinion.
  virtual std::vector<Decision> decide(Event const& event) = 0;
};

class Spine {
 public:
  // Success, or why not.
  using Executor = std::function<std::optional<std::string>(Decision const&, Event const&)>;

  // `log` may be null; it must outlive the spine.
  explicit Spine(std::ostream* log) : log_(log) {}
  void add_policy(std::unique_ptr<Policy> policy) { policies_.push_back(std::move(policy)); }
  void add_executor(Action action, Executor executor) { executors_[action] = std::move(executor); }

  uint64_t post(Event event) { return queue_.push(std::move(event)); }
  // Serves events until stop() or `until`.
  void run(Clock::time_point until = Clock::time_point::max());
  void stop() { queue_.close(); }
  [[nodiscard]] EventQueue& queue() { return queue_; }

 private:
  void serve(Event const& event);
  void log(Event const& event, Decision const* decision);

  EventQueue queue_;
  std::vector<std::unique_ptr<Policy>> policies_;
  std::map<Action, Executor> executors_;
  std::ostream* log_;
};

}  // namespace vmsrs::runtime::events
