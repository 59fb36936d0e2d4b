#include "runtime/protect/protected_guest.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "runtime/checkpoint/checkpoint.hpp"
#include "runtime/events/protect_policy.hpp"
#include "runtime/fault_report.hpp"
#include "runtime/files/file_journal.hpp"
#include "runtime/protect/guest_watch.hpp"
#include "vmm/guest_process.hpp"

namespace vmsrs::runtime::protect {
namespace {

constexpr auto kLockStands = std::chrono::seconds(2);  // recovery's own time to break a circle of waiting threads

[[noreturn]] void leave_at_once(std::string const& why) {
  fmt::print(stderr, "vmsrs: {}\n", why);
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

class GuestEpochs : public replicate::EpochSource {
 public:
  // `journal` may be null.
  GuestEpochs(vmm::GuestProcess& process, Recovery* recovery, GuestSockets& sockets, files::FileJournal* journal)
      : sockets_(sockets), journal_(journal), checkpointer_(process, options(recovery, sockets)) {}
  vmm::Result<replicate::TakenEpoch> take(bool full, std::function<bool()> const& before) override {
    before_ = &before;
    auto epoch = full ? checkpointer_.take_full() : checkpointer_.take_epoch();
    if (!epoch) {
      if (journal_ != nullptr) journal_->not_taken();
      return tl::unexpected(epoch.error());
    }
    auto marks = sockets_.marks(epoch->connections);
    return replicate::TakenEpoch{epoch->number, epoch->full, std::move(epoch->bytes), std::move(marks.open),
                                 std::move(marks.closed)};
  }
  void safe(uint64_t epoch) override {
    if (journal_ != nullptr) journal_->safe(epoch);
  }
  void unprotected() override {
    if (journal_ != nullptr) journal_->stop();
  }

 private:
  checkpoint::Options options(Recovery* recovery, GuestSockets& sockets) {
    checkpoint::Options options;
    options.before_stop = [this] { return (*before_)(); };
    if (journal_ != nullptr) options.at_boundary = [this] { journal_->boundary(checkpointer_.number() + 1); };
    options.owner = &sockets;
    options.recovery = recovery;
    return options;
  }
  GuestSockets& sockets_;
  files::FileJournal* journal_;
  std::function<bool()> const* before_ = nullptr;
  checkpoint::Checkpointer checkpointer_;
};

}  // namespace

struct ProtectedGuest::Parts {
  ProtectConfig config;
  std::unique_ptr<Coordinator> coordinator;
  GuestSockets sockets;
  std::unique_ptr<files::FileJournal> journal;  // null: files are not taken care of
  std::unique_ptr<replicate::GatewayLink> link;
  std::unique_ptr<GuestEpochs> epochs;
  std::unique_ptr<replicate::Primary> primary;
  std::unique_ptr<GuestWatch> watch;
  std::unique_ptr<AdaptiveEpochs> adaptive;
  std::atomic<replicate::Primary*> hears{nullptr};  // what the link says; null before start()
  std::atomic<bool> ending{false};

  void tell(events::Kind kind, events::Priority priority, std::string detail, int64_t value) const {
    if (!config.event) return;
    config.event(
        {.kind = kind, .priority = priority, .subject = "primary", .detail = std::move(detail), .value = value});
  }

  vmm::Result<void> connect(replicate::Hello const& hello) {
    replicate::GatewayLink::Handlers handlers;
    handlers.opening = [this](replicate::Opening const& what) { sockets.opening(what); };
    handlers.whole = [this](uint64_t epoch) {
      if (auto* const p = hears.load(); p != nullptr) p->whole(epoch);
    };
    handlers.output_waits = [this] {
      if (auto* const p = hears.load(); p != nullptr) p->output_waits();
    };
    handlers.lost = [this](bool fenced, std::string const& why) {
      if (ending.load()) return;
      leave_at_once(fenced ? why : "the gateway is gone, and the clients' connections with it: " + why);
    };
    auto made = replicate::GatewayLink::connect(config.gateway, config.primary.key, hello, std::move(handlers));
    if (!made) return tl::unexpected(made.error());
    link = std::move(*made);
    sockets.use(*link, config.gateway);
    if (!config.undo_folder.empty()) journal = std::make_unique<files::FileJournal>(config.undo_folder, hello.term);
    return {};
  }
};

ProtectedGuest::ProtectedGuest(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

ProtectedGuest::~ProtectedGuest() {
  parts_->ending = true;
  parts_->watch.reset();
  parts_->adaptive.reset();
  parts_->primary.reset();  // waits for its threads; it uses the others
}

vmm::Result<std::unique_ptr<ProtectedGuest>> ProtectedGuest::first(ProtectConfig config) {
  auto parts = std::make_unique<Parts>();
  parts->config = std::move(config);
  auto coordinator = open_coordinator(parts->config.coordinator);
  if (!coordinator) return tl::unexpected(coordinator.error());
  parts->coordinator = std::move(*coordinator);
  auto const term = parts->coordinator->acquire(parts->config.primary.lease);
  if (!term) return tl::unexpected(term.error());
  if (!*term) {
    return vmm::fail(
        vmm::Errc::kBadOption,
        fmt::format("{}: another primary has the lease; is this server running already?", parts->config.coordinator));
  }
  replicate::Hello hello;
  hello.term = **term;
  if (auto connected = parts->connect(hello); !connected) return tl::unexpected(connected.error());
  parts->link->start_thread();
  return std::unique_ptr<ProtectedGuest>(new ProtectedGuest(std::move(parts)));
}

vmm::Result<std::unique_ptr<ProtectedGuest>> ProtectedGuest::restored(ProtectConfig config,
                                                                      std::unique_ptr<Coordinator> coordinator,
                                                                      Term term, bool replay,
                                                                      std::vector<replicate::EpochName> holds) {
  auto parts = std::make_unique<Parts>();
  parts->config = std::move(config);
  parts->coordinator = std::move(coordinator);
  replicate::Hello hello;
  hello.term = term;
  hello.restored = true;
  hello.replay = replay;
  hello.holds = std::move(holds);
  if (auto connected = parts->connect(hello); !connected) return tl::unexpected(connected.error());
  std::string const& folder = parts->config.undo_folder;
  if (!folder.empty()) {
    auto const note = [](std::string const& text) { fmt::print(stderr, "vmsrs: failover: {}\n", text); };
    if (auto fenced = files::fence(folder, note); !fenced) return tl::unexpected(fenced.error());
    replicate::EpochName const resume = parts->link->welcome().resume;
    auto const undone = files::undo_after(folder, resume.term, resume.number, note);
    if (!undone) return tl::unexpected(undone.error());
    if (undone->changes != 0)
      fmt::print(stderr, "vmsrs: failover: {} changes to files are taken back ({} bytes)\n", undone->changes,
                 undone->bytes);
  }
  return std::unique_ptr<ProtectedGuest>(new ProtectedGuest(std::move(parts)));
}

GuestSockets& ProtectedGuest::sockets() {
  return parts_->sockets;
}

void ProtectedGuest::attach(vmm::GuestProcess& process) {
  process.socket_relay = &parts_->sockets;
  process.file_journal = parts_->journal.get();
  if (parts_->journal != nullptr) parts_->journal->use(process.memory());
}

replicate::EpochName ProtectedGuest::resume() const {
  return parts_->link->welcome().resume;
}

void ProtectedGuest::start(vmm::GuestProcess& process, Recovery* recovery) {
  Parts& parts = *parts_;
  if (parts.journal != nullptr) {
    if (auto claimed = files::claim(parts.config.undo_folder); !claimed) leave_at_once(claimed.error().message);
  }
  parts.epochs = std::make_unique<GuestEpochs>(process, recovery, parts.sockets, parts.journal.get());
  parts.primary = std::make_unique<replicate::Primary>(
      *parts.link, *parts.coordinator, *parts.epochs, parts.config.primary,
      replicate::Primary::Handlers{[&parts](std::string const& why) {
                                     if (!parts.ending.load()) leave_at_once(why);
                                   },
                                   parts.config.event, parts.config.epoch_is_safe});
  parts.hears = parts.primary.get();
  if (parts.link->welcome().resume.number != 0) parts.link->start_thread();
  parts.primary->start();
  if (parts.config.adaptive.model) {
    auto adaptive = AdaptiveEpochs::start(parts.config.adaptive, [&parts](AdaptiveEpochs::Setting const& setting) {
      parts.primary->set_longest(setting.longest);
      if (!setting.changed) return;
      parts.tell(events::Kind::kEpochLength, events::Priority::kLow,
                 fmt::format("{} ms; trouble {:.3f}", setting.longest.count(), setting.trouble),
                 setting.longest.count());
    });
    if (adaptive) parts.adaptive = std::move(*adaptive);
    if (!adaptive) fmt::print(stderr, "vmsrs: adaptive epochs: {}; they stay as they are\n", adaptive.error().message);
  }
  parts.watch = std::make_unique<GuestWatch>(process, kLockStands, [&parts](std::string const& cycle) {
    parts.tell(events::Kind::kStuckLock, events::Priority::kHigh, cycle, 0);
  });
}

void ProtectedGuest::fault_seen(FaultReport const& report) {
  bool const contained = report.contained();
  parts_->tell(contained ? events::Kind::kRequestFaulted : events::Kind::kFaultOutsideScope,
               contained ? events::Priority::kNormal : events::Priority::kHigh,
               fmt::format("fault {} in thread {}: {}", report.id, report.thread, report.outcome), report.signal);
}

void ProtectedGuest::ended(int status) {
  Parts& parts = *parts_;
  parts.ending = true;
  parts.watch.reset();
  parts.adaptive.reset();
  auto const sent = parts.primary != nullptr ? parts.primary->figures() : replicate::Primary::Figures();
  parts.tell(events::Kind::kApplicationEnded, events::Priority::kHigh,
             fmt::format("the program ended with status {}; {} epochs, {} bytes", status, sent.epochs, sent.bytes),
             status);
  if (parts.primary == nullptr) return;
  parts.primary->stop();
  // A program that a fault ended is still wanted: nobody is told, and the backup goes on.
  if (events::ended_by_itself(status)) parts.primary->program_ended(status);
  parts.primary->close();
  parts.epochs.reset();  // its guest is about to go
}

}  // namespace vmsrs::runtime::protect
