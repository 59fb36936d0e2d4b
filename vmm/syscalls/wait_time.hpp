// Time-outs of calls that wait. A relative one becomes an absolute deadline on the first run, kept in
// Thread::restart_deadline(), so that a call that is run again after a kick does not wait anew.
#pragma once

#include <cstdint>
#include <ctime>

namespace vmm {

class Thread;

class WaitTime {
 public:
  // ns < 0: for ever.
  WaitTime(Thread& thread, int64_t ns);
  [[nodiscard]] bool endless() const noexcept { return deadline_ < 0; }
  [[nodiscard]] timespec left() const;
  // For the host call: null where endless. Valid until the next call.
  [[nodiscard]] timespec* pointer();
  // The restart code of a wait: kRestartBlock where a deadline was kept, else kRestartNoHand.
  [[nodiscard]] int64_t restart(int64_t result) const;

 private:
  int64_t deadline_ = -1;
  timespec value_{};
};

// ns of a timespec; -1 if it is invalid. Saturates.
int64_t checked_ns(timespec const& time);

}  // namespace vmm
