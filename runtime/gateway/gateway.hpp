// The gateway: owns the clients' TCP connections, so that the guest behind them can be replaced.
//
// A guest's listening socket is bound here for the clients, and by the guest itself at an address inside. For each
// client the gateway connects to that one, after it has told the primary from which address (Opening), so that nobody
// else can pass for it. After a failover the restored guest's connections are connected anew (Attach).
//
// Strict: what the guest sends leaves when an epoch that covers it is safe (messages.hpp). Relaxed: at once; what has
// left and is not safe yet is kept, and what a restored guest sends in its place is compared: the same bytes are left
// out, others end the connection, and both are counted as possible loss.
// Input that no safe epoch covers is kept, and given again to a restored guest.
//
// Fencing: a primary speaks on one control channel under one term. A greater term ends the older one, whose connections
// are dropped with what they still hold; a lower one is refused (Fenced).
//
// All of it runs on the io_context's one thread.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "runtime/gateway/relayed_connection.hpp"
#include "runtime/replicate/channel.hpp"

namespace vmsrs::runtime::gateway {

struct GatewayConfig {
  replicate::Address control;                                // where primaries come
  replicate::Address data = replicate::Address::loopback();  // where a restored guest's connections come
  replicate::Key key;
  bool strict = true;
  // Asked before a new term is believed; may be null. False: the coordinator knows a newer one.
  std::function<bool(replicate::Term)> term_is_current;
  // What happened, for the log: "took over", "term 3 fenced" …
  std::function<void(std::string const&)> note;
  std::function<void(int status)> on_ended;  // the program ended by itself
};

class Gateway {
 public:
  struct Figures {
    uint64_t connections = 0, failovers = 0, released_bytes = 0, replayed_bytes = 0;
    uint64_t unsafe_bytes = 0;       // relaxed: output that had left and that the failover's epoch does not cover
    uint64_t repeated_bytes = 0;     // of them, those that the restored guest sent again just so
    uint64_t diverged = 0;           // connections ended because it sent something else
    uint64_t reset_at_failover = 0;  // connections whose input was not replayed
    uint64_t unprotected_bytes = 0;  // output that left while there was no backup
    uint64_t fenced = 0;             // primaries refused
  };
  static vmm::Result<std::unique_ptr<Gateway>> start(boost::asio::io_context& io, GatewayConfig config);
  ~Gateway();
  [[nodiscard]] replicate::Address control_address() { return control_->address(); }
  [[nodiscard]] Figures figures() const;

 private:
  struct Listener {
    std::unique_ptr<replicate::Acceptor> acceptor;  // null until the guest listens
    int bound = -1;                                 // the socket, until then
    replicate::Address inside, outside;
  };
  struct Primary;  // a control channel
  using Epoch = uint64_t;

  Gateway(boost::asio::io_context& io, GatewayConfig config) : io_(io), config_(std::move(config)), retry_(io) {}
  void arrived(replicate::Socket socket);
  void said(std::shared_ptr<Primary> const& from, replicate::Message&& message);
  void hello(std::shared_ptr<Primary> const& from, replicate::Hello const& hello);
  void resume(replicate::Hello const& hello, replicate::EpochName epoch);
  void bind(replicate::Bind const& what);
  void listen(replicate::Listen const& what);
  void attach(replicate::Attach const& what);
  void marks(replicate::Marks&& marks);
  void lost(std::shared_ptr<Primary> const& who, std::string const& why);
  void client_came(uint64_t listener, replicate::Socket socket);
  void open_waiting();
  void open_later();
  void inside_came(replicate::Socket socket);
  void check_whole();
  void release();
  void answer(replicate::Message const& message);
  void note(std::string const& text) const;
  void drop_ended();

  boost::asio::io_context& io_;
  GatewayConfig config_;
  std::unique_ptr<replicate::Acceptor> control_, data_;
  std::vector<std::shared_ptr<Primary>> strangers_;  // that have not said Hello
  std::shared_ptr<Primary> primary_;
  replicate::Term term_ = 0;
  bool protected_ = false, output_waits_told_ = false, ended_ = false;
  std::map<uint64_t, Listener> listeners_;
  std::map<uint64_t, std::shared_ptr<RelayedConnection>> connections_;
  std::map<replicate::Address, uint64_t> attaching_;  // source → connection
  uint64_t next_connection_ = 1;
  std::map<replicate::EpochName, replicate::Marks> epochs_;  // that are not safe yet, and the last safe one
  replicate::EpochName safe_;
  Epoch whole_ = 0, held_ = 0;  // of this term
  Figures figures_;
  boost::asio::steady_timer retry_;
};

}  // namespace vmsrs::runtime::gateway
