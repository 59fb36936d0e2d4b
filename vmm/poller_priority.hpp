// How a poller gets its turn on a processor, and gives it to others when it has nothing to do.
//
// Gentle: an ordinary thread, nice -20, that yields: a client on its processor runs at once and for as long as it must.
// Who computes without end there would take the processor for milliseconds. When that happens the poller becomes urgent
// for a while: SCHED_FIFO, and short sleeps in place of yields, so that others get their time in pieces of some 20 us.
// Both need CAP_SYS_NICE (or the limits); without them, and where the user made the monitor nice, it yields and waits.
//
// By the poller's own thread.
#pragma once

#include <cstdint>

namespace vmm {

class PollerPriority {
 public:
  // From the start of the poller's thread.
  void begin() noexcept;
  // At each round. now_ns: CLOCK_MONOTONIC; own_processor: it was given one. Urgency is for those alone.
  void round(int64_t now_ns, bool own_processor) noexcept;
  // Lets others run.
  void give_way() const noexcept;
  // Before the poller sleeps, and when it is awake again.
  void rest() noexcept;
  void back(int64_t now_ns) noexcept { last_ns_ = now_ns; }

 private:
  bool set_urgent(bool on) noexcept;
  bool allowed_ = false, urgent_ = false;
  int64_t last_ns_ = 0, until_ns_ = 0, span_ns_ = 0;
};

}  // namespace vmm
