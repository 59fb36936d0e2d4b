#include "runtime/replicate/backup.hpp"

#include <fmt/format.h>

#include <boost/asio/post.hpp>

namespace asio = boost::asio;

namespace vmsrs::runtime::replicate {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kAnnounceEvery = std::chrono::seconds(1);

class Wait {
 public:
  Wait(BackupConfig const& config, Coordinator& coordinator, EpochStore& store, bool const volatile& stop)
      : config_(config), coordinator_(coordinator), store_(store), stop_(stop) {}
  ~Wait() {
    if (channel_) channel_->shut();
    io_.poll();
  }

  vmm::Result<std::optional<TakeOver>> run() {
    auto acceptor = Acceptor::listen(io_, config_.listen, [this](Socket socket) { arrived(std::move(socket)); });
    if (!acceptor) return tl::unexpected(acceptor.error());
    acceptor_ = std::move(*acceptor);
    if (auto const announced = announce(); !announced) return tl::unexpected(announced.error());
    tick();
    io_.run();
    acceptor_.reset();
    (void)coordinator_.withdraw();
    return std::move(outcome_);
  }

 private:
  void note(std::string const& text) const {
    if (config_.note) config_.note(text);
  }
  void finish(vmm::Result<std::optional<TakeOver>> outcome) {
    outcome_ = std::move(outcome);
    io_.stop();
  }
  vmm::Result<void> announce() {
    announced_ = Clock::now();
    return coordinator_.announce(PartRole::kBackup, acceptor_->address().text());
  }

  void arrived(Socket socket) {
    std::shared_ptr<std::shared_ptr<Channel>> const own = std::make_shared<std::shared_ptr<Channel>>();
    *own = Channel::accept(std::move(socket), config_.key, Purpose::kEpochs,
                           {[this, own] {
                              // The newest primary counts; the one before is gone or fenced.
                              if (channel_) channel_->shut();
                              channel_ = *own;
                              store_.start_over();
                              note("a primary is here");
                            },
                            [this, own](Message&& message) {
                              if (*own == channel_) said(std::move(message));
                            },
                            [this, own](std::string const& why) {
                              if (*own == channel_) {
                                channel_.reset();
                                note("the primary's channel is closed: " + why);
                              } else {
                                note("a connection was refused: " + why);
                              }
                              asio::post(io_, [own] { own->reset(); });
                            },
                            {}});
  }

  void said(Message&& message) {
    if (std::holds_alternative<Ended>(message)) return finish(std::nullopt);
    auto const answer = store_.take(message);
    if (!answer) {
      note(answer.error().message);
      store_.start_over();
      channel_->send(EpochRefused{{}, answer.error().message});
      return;
    }
    if (!*answer) return;
    channel_->send(**answer);
    if (config_.on_held) config_.on_held(std::get<EpochHeld>(**answer).epoch);
  }

  void tick() {
    timer_.expires_after(config_.look_every);
    timer_.async_wait([this](boost::system::error_code error) {
      if (error) return;
      if (stop_) return finish(std::nullopt);
      look();
      if (!io_.stopped()) tick();
    });
  }

  void look() {
    if (Clock::now() - announced_ >= kAnnounceEvery) (void)announce();
    auto const lease = coordinator_.look();
    // Out of reach: nothing is known, so nothing is done.
    if (!lease || lease->held || store_.holds().empty()) {
      expired_.reset();
      return;
    }
    if (!expired_) expired_ = Clock::now();
    if (!lease->revoked && Clock::now() - *expired_ < config_.grace) return;
    bool const replay = lease->replay;
    auto const term = coordinator_.acquire(config_.lease);
    if (!term) return note(term.error().message);
    if (!*term) return;
    // What is complete and on its way in counts too: the channel is read to its end, if that comes at once.
    finish(TakeOver{**term, replay});
  }

  BackupConfig const& config_;
  Coordinator& coordinator_;
  EpochStore& store_;
  bool const volatile& stop_;
  asio::io_context io_;
  asio::steady_timer timer_{io_};
  std::unique_ptr<Acceptor> acceptor_;
  std::shared_ptr<Channel> channel_;
  Clock::time_point announced_;
  std::optional<Clock::time_point> expired_;
  vmm::Result<std::optional<TakeOver>> outcome_;
};

}  // namespace

vmm::Result<std::optional<TakeOver>> wait_as_backup(BackupConfig const& config, Coordinator& coordinator,
                                                    EpochStore& store, bool const volatile& stop) {
  return Wait(config, coordinator, store, stop).run();
}

}  // namespace vmsrs::runtime::replicate
