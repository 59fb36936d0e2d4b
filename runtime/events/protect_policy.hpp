// What is decided for a protected server: a primary, a backup, a gateway.
//
//   the primary died, or its lease expired   fail over to the backup; without one: restart everything
//   again within the window                  the input behind the last epoch may be what kills it: it is not replayed
//   and again                                restart, or end with the primary's status
//   the backup died                          start another one
//   the gateway died                         the clients' connections are gone with it: restart everything
//   faults within scopes                     report; too many within the window: fail over
//   a stuck lock                             fail over; again within the window: it is in the epoch, so end
//   the guest ended by itself                end with its status
#pragma once

#include <deque>
#include <optional>

#include "runtime/events/spine.hpp"

namespace vmsrs::runtime::events {

// Whether a program that ended so (a shell's status) wanted to, or was asked to. Otherwise it is a fault: another one
// goes on in its place.
bool ended_by_itself(int64_t status);

struct ProtectLimits {
  std::chrono::milliseconds window{10'000};
  unsigned failovers = 4;          // within the window, then no more
  unsigned replayed = 1;           // of these replay the input
  unsigned contained_faults = 20;  // within the window, then the process is suspect as a whole
};

// kFailOver's value: 1: the input behind the epoch is replayed, 0: it is dropped and its connections are reset.
class ProtectPolicy : public Policy {
 public:
  explicit ProtectPolicy(ProtectLimits limits = {}) : limits_(limits) {}
  std::vector<Decision> decide(Event const& event) override;

 private:
  std::vector<Decision> primary_lost(std::string const& why, int64_t status);
  void forget_old(std::deque<Clock::time_point>& times) const;

  ProtectLimits limits_;
  std::deque<Clock::time_point> failovers_, faults_;
  bool backup_ready_ = false, failing_over_ = false, ending_ = false, ended_by_itself_ = false;
  std::optional<Clock::time_point> stuck_;  // the last time
  int64_t status_ = 0;                      // of the program that ended
};

}  // namespace vmsrs::runtime::events
