// A connection between two parts that share a key: messages go in and come out whole, in order, unseen and unchanged,
// or the channel is closed with the reason (seal.hpp says how).
//
// Everything happens on the io_context's one thread. Handlers may call any method; after `closed` no handler is called.
#pragma once

#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>

#include "runtime/replicate/seal.hpp"

namespace vmsrs::runtime::replicate {

using Socket = boost::asio::generic::stream_protocol::socket;

// A connected or listening socket with this address's family; asio's generic protocols know nothing of options.
vmm::Result<int> open_listening(Address const& address, int backlog = 64);

class Channel : public std::enable_shared_from_this<Channel> {
 public:
  struct Handlers {
    std::function<void()> ready;  // both sides have proved that they know the key
    std::function<void(Message&&)> message;
    std::function<void(std::string const& why)> closed;
    std::function<void()> drained;  // everything sent has gone to the kernel; may be null
  };
  static std::shared_ptr<Channel> accept(Socket socket, Key const& key, Purpose purpose, Handlers handlers);
  static std::shared_ptr<Channel> connect(boost::asio::io_context& io, Address const& to, Key const& key,
                                          Purpose purpose, Handlers handlers);

  // Ignored once the channel is closed.
  void send(Message const& message);
  [[nodiscard]] size_t unsent() const { return unsent_; }  // bytes
  [[nodiscard]] size_t unread();                           // bytes that have come and were not looked at
  [[nodiscard]] bool is_ready() const { return ready_; }
  [[nodiscard]] bool is_open() const { return socket_.is_open(); }
  // Handlers are not called any more, not even `closed`.
  void shut();

 private:
  Channel(Socket socket, Key const& key, Purpose purpose, Handlers handlers)
      : socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        talk_(key, purpose),
        handlers_(std::move(handlers)) {}
  void fail(std::string const& why);
  void limit_handshake();
  void greet();
  void await_greeting();
  void now_ready();
  void write_next();
  void read_length();
  template <class Then>
  void read_exactly(size_t size, Then then);
  void push(Bytes bytes);
  void stop_sending();

  Socket socket_;
  boost::asio::steady_timer timer_;
  Conversation talk_;
  Handlers handlers_;
  bool ready_ = false, writing_ = false, deaf_ = false;
  std::deque<Bytes> queue_;
  size_t unsent_ = 0;
  Bytes incoming_;
};

// Accepts connections for ever; each socket is handed over.
class Acceptor {
 public:
  static vmm::Result<std::unique_ptr<Acceptor>> listen(boost::asio::io_context& io, Address const& at,
                                                       std::function<void(Socket)> on_socket);
  // As listen(), on a listening socket that is there already.
  Acceptor(boost::asio::io_context& io, int fd, std::function<void(Socket)> on_socket);
  [[nodiscard]] Address address();

 private:
  void next();
  boost::asio::basic_socket_acceptor<boost::asio::generic::stream_protocol> acceptor_;
  std::function<void(Socket)> on_socket_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

 public:
  ~Acceptor() { *alive_ = false; }
  Acceptor(Acceptor const&) = delete;
  Acceptor& operator=(Acceptor const&) = delete;
};

}  // namespace vmsrs::runtime::replicate
