// The primary's side of the channel to a backup: epochs go out in pieces, as fast as the channel takes them.
// On the io_context's thread.
#pragma once

#include <deque>

#include "runtime/replicate/channel.hpp"

namespace vmsrs::runtime::replicate {

class EpochSender {
 public:
  struct Handlers {
    std::function<void()> ready;
    std::function<void(EpochName)> held;
    std::function<void(std::string const& why)> lost;
  };
  EpochSender(boost::asio::io_context& io, Address const& backup, Key const& key, Handlers handlers);
  ~EpochSender() { channel_->shut(); }
  EpochSender(EpochSender const&) = delete;
  EpochSender& operator=(EpochSender const&) = delete;

  void send(EpochName name, bool full, Bytes bytes);
  void safe(EpochName name) { channel_->send(EpochSafe{name}); }
  void ended(int status) { channel_->send(Ended{status}); }

 private:
  struct Outgoing {
    EpochName name;
    Bytes bytes;
    size_t sent = 0;
    Digest digest;
  };
  void pump();
  Handlers handlers_;
  std::shared_ptr<Channel> channel_;
  std::deque<Outgoing> outgoing_;
};

}  // namespace vmsrs::runtime::replicate
