// Exitless calls: host threads that serve the system calls that guest threads post in their mailboxes, so that a call
// that need not wait costs no exit (docs/exitless.md).
//
// Each vCPU has a *seat*: its mailbox and what the monitor knows of it. A poller takes a post only while the guest
// thread is inside the VM, and the guest thread's own host thread waits for it on the way out, so that at any time one
// host thread acts for a guest thread. A call that would have to wait is left alone and tried again, until the guest
// has spun long enough and makes it by exit.
//
// Auto: the pollers sleep while calls are rare, wake when one thread makes many in a row, and keep out of the way for a
// while when guests wait in vain for a poller that does not get a processor.
//
// A poller that pays for a processor, in exits that it saves, gets one for itself: guest threads are kept off it
// (vmm/placement.hpp). Only others than guests run there, when the poller gives way.
//
// Where it is not plain that calls without exits are faster (others compute on every processor, say), auto tries: exits
// for a moment, and for longer if more calls were made a second that way.
//
// Thread-safe; a Seat is used by its guest thread's host thread and by one poller at a time.
#pragma once

#include <sched.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "vmm/mailbox.hpp"
#include "vmm/placement.hpp"
#include "vmm/stats.hpp"
#include "vmm/syscall_stub.hpp"

namespace vmm {

// Who carries a call out: the guest thread. On a poller's thread.
class CallServer {
 public:
  struct Answer {
    enum {
      kDone,       // here is the result
      kDoneLeave,  // the same, but the guest must come out before it goes on (a signal is pending)
      kMustWait,   // the call would have to wait, and did not happen; another try may do better
      kLeave       // it did not happen: the guest must make it by exit
    } kind = kLeave;
    int64_t result = 0;
  };
  virtual ~CallServer() = default;
  // site: the address behind the call in the guest, not to be trusted.
  virtual Answer serve_posted(SyscallArgs const& call, uint64_t site) = 0;
};

// What became of the call that a guest thread was making when it left the VM.
enum class PostFate {
  kNotMade,  // to be made by exit
  kAnswered,
  kDamaged  // the mailbox is not as the guest's stub and the monitor left it: nobody knows
};

class Seat {
 public:
  void bind(Mailbox& mailbox) noexcept { mailbox_ = &mailbox; }
  [[nodiscard]] int64_t result() const noexcept { return result_; }
  // Of the post that is being served; by its poller.
  [[nodiscard]] Registers registers() const noexcept { return posted_registers(*mailbox_); }

 private:
  friend class Pollers;
  enum Phase : uint32_t { kOutside, kInside, kTaken };
  std::atomic<uint32_t> phase_{kOutside};
  Mailbox* mailbox_ = nullptr;
  CallServer* server_ = nullptr;
  uint64_t answered_ = 0;  // number of the last post that was answered
  int64_t result_ = 0;     // its result
  uint64_t seen_ = 0;      // number of the last post that a poller looked at
  uint64_t refused_ = 0;   // number of the post that must be made by exit: tried no more
  uint32_t wait_scans_ = 0;
  int32_t patience_ = 0;       // > 0: calls that had to wait were mostly answered while the guest spun
  uint32_t impatient_ = 0;     // posts sent away at once since patience ran out
  unsigned exits_in_row_ = 0;  // by the guest thread's host thread
  int64_t last_exit_ns_ = 0;
};

class Pollers {
 public:
  static constexpr int kAuto = -1;
  // count: kAuto, 0 (never), or a number of threads that poll as long as the guest makes calls.
  // placement: of the guest threads, outlives the pollers; null: they stay where they are.
  Pollers(int count, unsigned seats, Stats& stats, Placement* placement = nullptr);
  ~Pollers();
  Pollers(Pollers const&) = delete;
  Pollers& operator=(Pollers const&) = delete;

  [[nodiscard]] Seat& seat(unsigned index) noexcept { return seats_[index]; }
  // Around KVM_RUN, by the guest thread's host thread. leave() waits for a poller that is at work for it.
  // post: whether the guest may post calls this time.
  void enter(Seat& seat, CallServer& server, bool post = true) noexcept;
  void leave(Seat& seat) noexcept;
  // After leave(): what became of the call at whose `place` the guest left. Puts the mailbox in order again.
  PostFate settle(Seat& seat, StubPlace place, uint64_t number) noexcept;
  // A call that could have been posted came by exit: perhaps the pollers should wake.
  void note_exit(Seat& seat) noexcept;

  // What an exit costs on this machine, in ns; before the first call. Until then a guess.
  void set_exit_price(int64_t ns) noexcept { exit_ns_ = ns; }

  // Ends all threads; before the servers go.
  void stop() noexcept;
  [[nodiscard]] bool active() const noexcept { return active_.load(std::memory_order_relaxed); }

 private:
  struct Poller;
  void poll(Poller& self) noexcept;
  enum class Found { kNothing, kWaiting, kAnswered };  // the most that a scan came upon
  Found scan(Poller& self) noexcept;
  Found serve(Seat& seat, Poller& self) noexcept;
  void park() noexcept;
  void wake() noexcept;
  void start() noexcept;
  void start_poller();
  [[nodiscard]] unsigned wanted() const noexcept;
  void replace_stuck() noexcept;
  void missed() noexcept;
  void steer_from_here() noexcept;
  void suspend() noexcept;
  void turn_off() noexcept;
  bool weigh(int64_t least_ns) noexcept;
  void compare(int64_t now) noexcept;
  void begin_span(int64_t now) noexcept;
  [[nodiscard]] double calls_a_ns(int64_t now) const noexcept;
  bool trial_over(int64_t now) noexcept;
  bool reserve() noexcept;
  void give_back() noexcept;
  void settle_down(Poller& self) noexcept;

  int const count_;
  Stats& stats_;
  std::vector<Seat> seats_;
  std::vector<std::atomic<uint64_t>> inside_;  // bit per seat: its thread is in the VM
  int32_t spin_limit_ = 0;
  cpu_set_t allowed_{};  // to the monitor when it started
  std::atomic<bool> active_{false}, stopping_{false};
  std::atomic<uint32_t> window_calls_{0}, window_missed_{0};
  std::atomic<int64_t> quiet_until_ns_{0};
  std::atomic<int64_t> backoff_ns_{0};
  std::atomic<int64_t> hot_until_ns_{0};
  std::atomic<uint64_t> answered_at_wake_{0};  // stats_.exitless_calls then

  // Whether the pollers have processors of their own, and what is known since it was last decided.
  Placement* const placement_;
  std::atomic<int64_t> exit_ns_;
  std::atomic<bool> reserved_{false};
  std::atomic<bool> reserved_before_{false};  // when they went to sleep
  std::mutex reserve_mutex_;                  // of changes of reserved_ and of what follows from it
  std::mutex weigh_mutex_;                    // of the next two
  int64_t weighed_ns_ = 0;
  uint64_t weighed_calls_ = 0;
  std::atomic<uint64_t> scans_{0}, threads_seen_{0};  // the second: inside the VM, summed over the scans
  std::atomic<uint64_t> exits_{0};                    // by calls that could have been posted

  // Comparing with exits: since when calls are counted, and what came of it.
  std::mutex compare_mutex_;  // of what follows
  std::atomic<int64_t> compare_at_ns_{0};
  int64_t span_since_ns_ = 0, next_span_ns_ = 0, lost_for_ns_ = 0;
  uint64_t span_calls_ = 0;
  double rate_polled_ = 0;  // calls a ns
  std::atomic<bool> trying_exits_{false};

  std::mutex mutex_;  // of pollers_
  std::vector<std::unique_ptr<Poller>> pollers_;
};

}  // namespace vmm
