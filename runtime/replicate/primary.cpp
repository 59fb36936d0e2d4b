#include "runtime/replicate/primary.hpp"

#include <fmt/format.h>

#include <boost/asio/post.hpp>
#include <future>

#include "runtime/replicate/quiet_thread.hpp"

namespace asio = boost::asio;

namespace vmsrs::runtime::replicate {
namespace {

constexpr auto kLookForBackup = std::chrono::milliseconds(100);
constexpr auto kReadyTime = std::chrono::seconds(6);  // longer than a channel's handshake may take

}  // namespace

Primary::Primary(GatewayLink& link, Coordinator& coordinator, EpochSource& source, PrimaryConfig config,
                 Handlers handlers)
    : link_(link), coordinator_(coordinator), source_(source), config_(config), handlers_(std::move(handlers)) {}

void Primary::start() {
  lease_thread_ = quiet_thread([this] { keep_lease(); });
  epoch_thread_ = quiet_thread([this] { pump(); });
}

void Primary::stop() {
  {
    std::lock_guard const guard(mutex_);
    if (std::exchange(stop_, true)) return;
    changed_.notify_all();
  }
  if (lease_thread_.joinable()) lease_thread_.join();
  if (epoch_thread_.joinable()) epoch_thread_.join();
}

void Primary::close() {
  stop();
  std::promise<void> dropped;
  asio::post(link_.io(), [&] {
    sender_.reset();
    dropped.set_value();
  });
  dropped.get_future().wait();
}

void Primary::program_ended(int status) {
  asio::post(link_.io(), [this, status] {
    if (sender_) sender_->ended(status);
  });
  link_.send(Ended{status});
  link_.flush();
}

void Primary::tell(events::Kind kind, std::string detail, events::Priority priority) {
  if (!handlers_.event) return;
  handlers_.event({.kind = kind, .priority = priority, .subject = "backup", .detail = std::move(detail)});
}

void Primary::end_term(std::string const& why) {
  if (over_.exchange(true)) return;
  if (handlers_.fenced) handlers_.fenced(why);
}

void Primary::whole(uint64_t epoch) {
  std::lock_guard const guard(mutex_);
  whole_ = std::max(whole_, epoch);
  changed_.notify_all();
}

void Primary::output_waits() {
  std::lock_guard const guard(mutex_);
  output_waits_ = true;
  changed_.notify_all();
}

void Primary::lost(bool fenced, std::string const& why) {
  // Without the gateway there are no clients, and nobody to say that this term still counts.
  end_term(fenced ? why : "the gateway is gone: " + why);
}

void Primary::set_longest(std::chrono::milliseconds longest) {
  std::lock_guard const guard(mutex_);
  if (std::exchange(config_.longest, std::max(longest, config_.shortest)) != longest) changed_.notify_all();
}

Primary::Figures Primary::figures() const {
  std::lock_guard const guard(mutex_);
  return figures_;
}

void Primary::keep_lease() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    lock.unlock();
    auto const kept = coordinator_.renew(link_.term(), config_.lease);
    // A coordinator that does not answer says nothing: the gateway knows whether the term still counts.
    if (kept && !*kept) end_term(fmt::format("the lease of term {} is over", link_.term()));
    lock.lock();
    changed_.wait_for(lock, config_.lease / 4, [this] { return stop_; });
  }
}

void Primary::pump() {
  bool full = true, connected = false;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (stop_) return;
      if (connected && backup_lost_) {
        lock.unlock();
        drop_backup(why_lost_);
        connected = false;
        continue;
      }
    }
    if (!connected) {
      connected = find_backup();
      full = true;
      if (!connected) {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, kLookForBackup, [this] { return stop_; });
        continue;
      }
    }
    if (!full) {
      std::unique_lock lock(mutex_);
      changed_.wait_until(lock, last_ + config_.shortest, [this] { return stop_ || backup_lost_; });
      while (!stop_ && !backup_lost_ && !output_waits_) {
        // The longest time may be set while it passes.
        if (changed_.wait_until(lock, last_ + config_.longest) == std::cv_status::timeout &&
            Clock::now() >= last_ + config_.longest)
          break;
      }
      if (stop_ || backup_lost_) continue;
    }
    if (one_epoch(full)) {
      if (full) tell(events::Kind::kBackupReady, fmt::format("term {}", link_.term()));
      full = false;
    }
  }
}

bool Primary::find_backup() {
  auto const found = coordinator_.find(PartRole::kBackup);
  if (!found) return false;
  for (std::string const& text : *found) {
    auto const address = Address::parse(text);
    if (!address) continue;
    {
      std::lock_guard const guard(mutex_);
      backup_ready_ = backup_lost_ = false;
      held_ = 0;
    }
    asio::post(link_.io(), [this, address = *address] {
      auto const notify = [this](bool& what, std::string const& why) {
        std::lock_guard const guard(mutex_);
        what = true;
        if (!why.empty()) why_lost_ = why;
        changed_.notify_all();
      };
      sender_ = std::make_shared<EpochSender>(
          link_.io(), address, config_.key,
          EpochSender::Handlers{[this, notify] { notify(backup_ready_, ""); },
                                [this](EpochName epoch) {
                                  if (epoch.term != link_.term()) return;
                                  link_.send(Safe{epoch.number});
                                  std::lock_guard const guard(mutex_);
                                  held_ = std::max(held_, epoch.number);
                                  changed_.notify_all();
                                },
                                [this, notify](std::string const& why) { notify(backup_lost_, why); }});
    });
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kReadyTime, [this] { return stop_ || backup_ready_ || backup_lost_; });
    if (backup_ready_ && !backup_lost_) return true;
  }
  return false;
}

bool Primary::one_epoch(bool full) {
  {
    std::lock_guard const guard(mutex_);
    output_waits_ = false;
  }
  last_ = Clock::now();
  // From before a full epoch's boundary on, output waits for an epoch that covers it.
  bool answers = true;
  auto taken = source_.take(full, [&] { return answers = !full || link_.set_protected(true); });
  if (!answers) {
    std::lock_guard const guard(mutex_);
    backup_lost_ = true;
    why_lost_ = "the gateway does not answer";
    return false;
  }
  if (!taken) {
    // It is not taken: what it would have held is in the next one.
    tell(events::Kind::kActionFailed, "epoch: " + taken.error().message);
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kLookForBackup, [this] { return stop_; });
    return false;
  }
  EpochName const name{link_.term(), taken->number};
  size_t const size = taken->bytes.size();
  link_.send(Marks{taken->number, std::move(taken->open), std::move(taken->closed)});
  asio::post(link_.io(), [this, name, is_full = taken->full, bytes = std::move(taken->bytes)]() mutable {
    if (sender_) sender_->send(name, is_full, std::move(bytes));
  });
  std::unique_lock lock(mutex_);
  ++figures_.epochs;
  figures_.bytes += size;
  auto const longest = config_.longest;
  bool const safe = changed_.wait_for(lock, config_.backup_answers_within, [&] {
    return stop_ || backup_lost_ || (held_ >= name.number && whole_ >= name.number);
  });
  if (stop_ || backup_lost_) return false;
  if (safe) {
    lock.unlock();
    source_.safe(name.number);
    if (handlers_.safe)
      handlers_.safe(
          {.name = name, .full = taken->full, .bytes = size, .asked = last_, .safe = Clock::now(), .longest = longest});
    lock.lock();
  } else {
    backup_lost_ = true;
    why_lost_ = fmt::format("no answer within {} ms", config_.backup_answers_within.count());
    return false;
  }
  asio::post(link_.io(), [this, name] {
    if (sender_) sender_->safe(name);
  });
  return true;
}

void Primary::drop_backup(std::string const& why) {
  {
    std::lock_guard const guard(mutex_);
    ++figures_.backups_lost;
  }
  std::promise<void> dropped;
  asio::post(link_.io(), [&] {
    sender_.reset();
    dropped.set_value();
  });
  dropped.get_future().wait();
  // From here on output leaves at once, and no epoch held anywhere may be gone back to.
  (void)link_.set_protected(false);
  source_.unprotected();
  tell(events::Kind::kBackupLost, why, events::Priority::kHigh);
}

}  // namespace vmsrs::runtime::replicate
