#include "runtime/replicate/epoch_sender.hpp"

namespace vmsrs::runtime::replicate {
namespace {
constexpr size_t kMostUnsent = 4 << 20;
}

EpochSender::EpochSender(boost::asio::io_context& io, Address const& backup, Key const& key, Handlers handlers)
    : handlers_(std::move(handlers)) {
  channel_ = Channel::connect(io, backup, key, Purpose::kEpochs,
                              {[this] { handlers_.ready(); },
                               [this](Message&& message) {
                                 if (auto const* const held = std::get_if<EpochHeld>(&message)) {
                                   handlers_.held(held->epoch);
                                 } else if (auto const* const refused = std::get_if<EpochRefused>(&message)) {
                                   channel_->shut();
                                   handlers_.lost("it refused an epoch: " + refused->why);
                                 }
                               },
                               [this](std::string const& why) { handlers_.lost(why); }, [this] { pump(); }});
}

void EpochSender::send(EpochName name, bool full, Bytes bytes) {
  channel_->send(EpochBegin{name, full, bytes.size()});
  outgoing_.push_back({name, std::move(bytes), 0, {}});
  pump();
}

void EpochSender::pump() {
  while (!outgoing_.empty() && channel_->unsent() < kMostUnsent) {
    Outgoing& epoch = outgoing_.front();
    if (epoch.sent == epoch.bytes.size()) {
      channel_->send(EpochEnd{epoch.name, epoch.digest.result()});
      outgoing_.pop_front();
      continue;
    }
    auto const piece = std::span<std::byte const>(epoch.bytes)
                           .subspan(epoch.sent, std::min(kEpochPiece, epoch.bytes.size() - epoch.sent));
    epoch.digest.add(piece);
    epoch.sent += piece.size();
    channel_->send(EpochData{Bytes(piece.begin(), piece.end())});
  }
}

}  // namespace vmsrs::runtime::replicate
