// The primary's work beside the guest: it takes epochs, sends them to a backup, tells the gateway how far each
// connection is, and holds the lease.
//
// An epoch is closed when the longest time has passed, or, from the shortest on, as soon as output waits for it. The
// next one is not taken before the last one is safe, so a slow backup makes epochs longer, not memory fuller. A backup
// that does not answer in time is given up: the guest goes on unprotected until another one is found.
//
// Threads: one for epochs, one for the lease; the link's own. stop() and the destructor wait for them.
#pragma once

#include <atomic>

#include "runtime/events/event.hpp"
#include "runtime/lease/coordinator.hpp"
#include "runtime/replicate/epoch_sender.hpp"
#include "runtime/replicate/gateway_link.hpp"

namespace vmsrs::runtime::replicate {

struct TakenEpoch {
  uint64_t number = 0;  // one more than the one before
  bool full = false;
  Bytes bytes;
  std::vector<ConnectionMark> open;
  std::vector<uint64_t> closed;
};

// What is replicated: a guest, or any process whose state is bytes.
class EpochSource {
 public:
  virtual ~EpochSource() = default;
  // Stops it at a boundary, copies what changed, lets it go on. `before` is called before it is stopped, as late as
  // may be: a full epoch's copy takes long, and what it holds back is held back from then on. False: do not go on.
  virtual vmm::Result<TakenEpoch> take(bool full, std::function<bool()> const& before) = 0;
  // Nobody goes back further than to this epoch any more.
  virtual void safe(uint64_t /*epoch*/) {}
  // Nobody goes back at all: there is no backup. The next epoch is full.
  virtual void unprotected() {}
};

// An epoch that a backup holds and whose output may leave.
struct SafeEpoch {
  EpochName name;
  bool full = false;
  size_t bytes = 0;
  std::chrono::steady_clock::time_point asked, safe;  // the boundary is a little after `asked`
  std::chrono::milliseconds longest{0};               // as it was set then
};

struct PrimaryConfig {
  Key key;
  std::chrono::milliseconds shortest{5}, longest{100};
  std::chrono::milliseconds lease{1000};
  std::chrono::milliseconds backup_answers_within{10'000};
};

class Primary {
 public:
  using Clock = std::chrono::steady_clock;
  struct Handlers {
    std::function<void(std::string const& why)> fenced;  // the term is over: end without any further effect
    std::function<void(events::Event)> event;
    std::function<void(SafeEpoch const&)> safe;  // the epochs' thread
  };
  struct Figures {
    uint64_t epochs = 0, bytes = 0, backups_lost = 0;
  };
  // The link's handlers whole, output_waits and lost are to be passed on to the methods of these names.
  Primary(GatewayLink& link, Coordinator& coordinator, EpochSource& source, PrimaryConfig config, Handlers handlers);
  ~Primary() { stop(); }
  void start();
  void stop();
  void close();  // stop(), and lets the backup's channel go; the link must still run
  // The program ended by itself: gateway and backup are told.
  void program_ended(int status);

  void whole(uint64_t epoch);
  void output_waits();
  void lost(bool fenced, std::string const& why);
  // From the epoch under way on.
  void set_longest(std::chrono::milliseconds longest);
  [[nodiscard]] Figures figures() const;
  // False once the term is known to be over.
  [[nodiscard]] bool may_act() const { return !over_.load(std::memory_order_acquire); }

 private:
  struct Backup;
  void keep_lease();
  void pump();
  bool find_backup();
  bool one_epoch(bool full);
  void drop_backup(std::string const& why);
  void end_term(std::string const& why);
  void tell(events::Kind kind, std::string detail, events::Priority priority = events::Priority::kNormal);

  GatewayLink& link_;
  Coordinator& coordinator_;
  EpochSource& source_;
  PrimaryConfig config_;
  Handlers handlers_;
  std::thread lease_thread_, epoch_thread_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false, output_waits_ = false, backup_ready_ = false, backup_lost_ = false;
  std::string why_lost_;
  uint64_t held_ = 0, whole_ = 0;
  std::atomic<bool> over_{false};
  std::shared_ptr<EpochSender> sender_;  // the link's thread
  Clock::time_point last_{};
  Figures figures_;
};

}  // namespace vmsrs::runtime::replicate
