#include "runtime/events/protect_policy.hpp"

#include <fmt/format.h>

#include <csignal>

namespace vmsrs::runtime::events {

bool ended_by_itself(int64_t status) {
  for (int const signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) {
    if (status == 128 + signal) return true;
  }
  return status <= 128;
}

void ProtectPolicy::forget_old(std::deque<Clock::time_point>& times) const {
  while (!times.empty() && Clock::now() - times.front() > limits_.window) times.pop_front();
}

std::vector<Decision> ProtectPolicy::primary_lost(std::string const& why, int64_t status) {
  if (failing_over_) return {{Action::kReport, "primary", why + "; a failover is under way", 0}};
  if (!backup_ready_) return {{Action::kEnd, "all", why + ", and no backup holds a complete epoch", status}};
  forget_old(failovers_);
  if (failovers_.size() >= limits_.failovers) {
    return {{Action::kEnd, "all",
             fmt::format("{}, after {} failovers within {} s", why, failovers_.size(), limits_.window.count() / 1000),
             status}};
  }
  bool const replay = failovers_.size() < limits_.replayed;
  failovers_.push_back(Clock::now());
  failing_over_ = true;
  backup_ready_ = false;
  std::string const how = replay ? "its input is replayed" : "again: the input behind the epoch is not replayed";
  return {{Action::kFailOver, "backup", why + "; " + how, replay ? 1 : 0}};
}

std::vector<Decision> ProtectPolicy::decide(Event const& event) {
  if (ending_) return {};
  switch (event.kind) {
    case Kind::kPartEnded:
      if (event.subject == "primary") {
        if (ended_by_itself_) {
          ending_ = true;
          return {{Action::kEnd, "all", "the program ended by itself", status_}};
        }
        return primary_lost("the primary died", event.value);
      }
      if (event.subject == "backup" && ended_by_itself_) return {};
      if (event.subject == "backup") {
        backup_ready_ = false;
        if (failing_over_) {
          ending_ = true;
          return {{Action::kEnd, "all", "the backup died while it took over", event.value}};
        }
        return {{Action::kStartBackup, "backup", "the backup died", 0}};
      }
      ending_ = true;
      // It has given out what the program wrote last; the primary's process may be slow to go.
      if (ended_by_itself_) return {{Action::kEnd, "all", "the program ended by itself", status_}};
      return {{Action::kEnd, "all", "the gateway died, and the clients' connections with it", event.value}};
    case Kind::kLeaseExpired:
      // Its program has ended: the process is only slow to go.
      if (ended_by_itself_) return {{Action::kReport, "primary", "the program ended by itself", status_}};
      return primary_lost("the primary did not renew its lease", 128 + 9);
    case Kind::kStuckLock: {
      bool const again = stuck_ && Clock::now() - *stuck_ <= limits_.window;
      stuck_ = Clock::now();
      if (!again) return primary_lost("a lock is stuck in the guest", 128 + SIGABRT);
      ending_ = true;
      return {
          {Action::kEnd, "all", "a lock is stuck in the guest that went on from the last epoch too", 128 + SIGABRT}};
    }
    case Kind::kFaultOutsideScope:
      return {{Action::kReport, event.subject, "the guest's own handler, or its end, comes next", 0}};
    case Kind::kRequestFaulted:
      forget_old(faults_);
      faults_.push_back(Clock::now());
      if (faults_.size() < limits_.contained_faults) {
        return {{Action::kReport, event.subject, "contained within its scope", 0}};
      }
      faults_.clear();
      [[fallthrough]];
    case Kind::kRepeatedFaults:
      return primary_lost("contained faults again and again", 128 + 6);
    case Kind::kBackupReady:
      backup_ready_ = true;
      return {};
    case Kind::kBackupLost:
      backup_ready_ = false;
      return {};
    case Kind::kTookOver:
      failing_over_ = false;
      return {{Action::kStartBackup, "backup", "redundancy comes back", 0}};
    case Kind::kApplicationEnded:
      ended_by_itself_ = ended_by_itself(event.value);
      status_ = event.value;
      return {{Action::kReport, "primary", "the program ended", event.value}};
    case Kind::kActionFailed:
      if (failing_over_ && event.value == static_cast<int64_t>(Action::kFailOver)) {
        ending_ = true;
        return {{Action::kEnd, "all", "the failover failed: " + event.detail, 125}};
      }
      return {};
    case Kind::kAskedToEnd:
      return {};
    case Kind::kEpochLength:
      return {{Action::kReport, "primary", "epochs are as dense as trouble is likely", event.value}};
    case Kind::kActionDone:
      return {};
  }
  return {};
}

}  // namespace vmsrs::runtime::events
