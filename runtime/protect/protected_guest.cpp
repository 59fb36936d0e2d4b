#include "runtime/protect/protected_guest.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "runtime/checkpoint/checkpoint.hpp"
#include "runtime/events/protect_policy.hpp"
#include "vmm/guest_process.hpp"

namespace vmsrs::runtime::protect {
namespace {

[[noreturn]] void leave_at_once(std::string const& why) {
  fmt::print(stderr, "vmsrs: {}\n", why);
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

class GuestEpochs : public replicate::EpochSource {
 public:
  GuestEpochs(vmm::GuestProcess& process, Recovery* recovery, GuestSockets& sockets)
      : sockets_(sockets), checkpointer_(process, options(recovery, sockets)) {}
  vmm::Result<replicate::TakenEpoch> take(bool full) override {
    auto epoch = full ? checkpointer_.take_full() : checkpointer_.take_epoch();
    if (!epoch) return tl::unexpected(epoch.error());
    auto marks = sockets_.marks(epoch->connections);
    return replicate::TakenEpoch{epoch->number, epoch->full, std::move(epoch->bytes), std::move(marks.open),
                                 std::move(marks.closed)};
  }

 private:
  static checkpoint::Options options(Recovery* recovery, GuestSockets& sockets) {
    checkpoint::Options options;
    options.owner = &sockets;
    options.recovery = recovery;
    return options;
  }
  GuestSockets& sockets_;
  checkpoint::Checkpointer checkpointer_;
};

}  // namespace

struct ProtectedGuest::Parts {
  ProtectConfig config;
  std::unique_ptr<Coordinator> coordinator;
  GuestSockets sockets;
  std::unique_ptr<replicate::GatewayLink> link;
  std::unique_ptr<GuestEpochs> epochs;
  std::unique_ptr<replicate::Primary> primary;
  std::atomic<replicate::Primary*> hears{nullptr};  // what the link says; null before start()
  std::atomic<bool> ending{false};

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
    sockets.use(*link);
    return {};
  }
};

ProtectedGuest::ProtectedGuest(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

ProtectedGuest::~ProtectedGuest() {
  parts_->ending = true;
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
  return std::unique_ptr<ProtectedGuest>(new ProtectedGuest(std::move(parts)));
}

GuestSockets& ProtectedGuest::sockets() {
  return parts_->sockets;
}

replicate::EpochName ProtectedGuest::resume() const {
  return parts_->link->welcome().resume;
}

void ProtectedGuest::start(vmm::GuestProcess& process, Recovery* recovery) {
  Parts& parts = *parts_;
  parts.epochs = std::make_unique<GuestEpochs>(process, recovery, parts.sockets);
  parts.primary =
      std::make_unique<replicate::Primary>(*parts.link, *parts.coordinator, *parts.epochs, parts.config.primary,
                                           replicate::Primary::Handlers{[&parts](std::string const& why) {
                                                                          if (!parts.ending.load()) leave_at_once(why);
                                                                        },
                                                                        parts.config.event});
  parts.hears = parts.primary.get();
  if (parts.link->welcome().resume.number != 0) parts.link->start_thread();
  parts.primary->start();
}

void ProtectedGuest::ended(int status) {
  Parts& parts = *parts_;
  parts.ending = true;
  if (parts.config.event) {
    events::Event event;
    event.kind = events::Kind::kApplicationEnded;
    event.priority = events::Priority::kHigh;
    event.subject = "primary";
    auto const sent = parts.primary != nullptr ? parts.primary->figures() : replicate::Primary::Figures();
    event.detail =
        fmt::format("the program ended with status {}; {} epochs, {} bytes", status, sent.epochs, sent.bytes);
    event.value = status;
    parts.config.event(std::move(event));
  }
  if (parts.primary == nullptr) return;
  parts.primary->stop();
  // A program that a fault ended is still wanted: nobody is told, and the backup goes on.
  if (events::ended_by_itself(status)) parts.primary->program_ended(status);
  parts.primary->close();
  parts.epochs.reset();  // its guest is about to go
}

}  // namespace vmsrs::runtime::protect
