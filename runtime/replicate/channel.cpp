#include "runtime/replicate/channel.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "runtime/replicate/step_hook.hpp"

namespace asio = boost::asio;
using boost::system::error_code;

namespace vmsrs::runtime::replicate {
namespace {

constexpr auto kHandshakeTime = std::chrono::seconds(5);

uint32_t length_of(Bytes const& bytes) {
  uint32_t n = 0;
  for (size_t i = 0; i < 4; ++i) n |= static_cast<uint32_t>(bytes[i]) << (8 * i);
  return n;
}

void no_delay(Socket& socket) {
  int const on = 1;  // fails on a Unix socket, which has no delay
  setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

vmm::Result<int> open_listening(Address const& address, int backlog) {
  int const fd = socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return vmm::fail_host("socket");
  int const on = 1;
  if (address.is_tcp()) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, address.get(), address.size()) != 0 || ::listen(fd, backlog) != 0) {
    auto error = vmm::fail_host("listening on " + address.text());
    close(fd);
    return error;
  }
  return fd;
}

std::shared_ptr<Channel> Channel::accept(Socket socket, Key const& key, Purpose purpose, Handlers handlers) {
  std::shared_ptr<Channel> self(new Channel(std::move(socket), key, purpose, std::move(handlers)));
  no_delay(self->socket_);
  self->limit_handshake();
  self->await_greeting();
  return self;
}

std::shared_ptr<Channel> Channel::connect(asio::io_context& io, Address const& to, Key const& key, Purpose purpose,
                                          Handlers handlers) {
  std::shared_ptr<Channel> self(new Channel(Socket(io), key, purpose, std::move(handlers)));
  self->limit_handshake();
  asio::generic::stream_protocol::endpoint const endpoint(to.get(), to.size());
  self->socket_.async_connect(endpoint, [self, to](error_code error) {
    if (error) return self->fail(fmt::format("{}: {}", to.text(), error.message()));
    no_delay(self->socket_);
    self->greet();
  });
  return self;
}

void Channel::fail(std::string const& why) {
  if (!socket_.is_open()) return;
  shut();
  if (handlers_.closed) handlers_.closed(why);
}

void Channel::shut() {
  error_code ignored;
  socket_.close(ignored);
  timer_.cancel();
}

void Channel::limit_handshake() {
  timer_.expires_after(kHandshakeTime);
  timer_.async_wait([self = shared_from_this()](error_code error) {
    if (!error && !self->ready_) self->fail("the other side does not finish the handshake");
  });
}

template <class Then>
void Channel::read_exactly(size_t size, Then then) {
  incoming_.resize(size);
  asio::async_read(socket_, asio::buffer(incoming_), [self = shared_from_this(), then](error_code error, size_t) {
    if (!self->socket_.is_open()) return;
    if (error == asio::error::eof) return self->fail("the other side closed the connection");
    if (error) return self->fail(error.message());
    then(*self);
  });
}

void Channel::greet() {
  push(talk_.greet());
  read_exactly(kChallengeSize, [](Channel& self) {
    auto const answer = self.talk_.answer(self.incoming_);
    if (!answer) return self.fail("the other side does not know the shared key");
    self.push(*answer);
    self.now_ready();
  });
}

void Channel::await_greeting() {
  read_exactly(kGreetingSize, [](Channel& self) {
    auto const challenge = self.talk_.challenge(self.incoming_);
    if (!challenge) return self.fail("a connection that is not for this channel");
    self.push(*challenge);
    self.read_exactly(kAnswerSize, [](Channel& me) {
      if (!me.talk_.accept(me.incoming_)) return me.fail("the other side does not know the shared key");
      me.now_ready();
    });
  });
}

void Channel::now_ready() {
  ready_ = true;
  timer_.cancel();
  if (handlers_.ready) handlers_.ready();
  if (socket_.is_open()) read_length();
}

void Channel::send(Message const& message) {
  if (!socket_.is_open() || !ready_) return;
  step(name_of(message), true);
  push(talk_.seal(encode(message)));
}

void Channel::stop_sending() {
  deaf_ = true;
  queue_.clear();
  unsent_ = 0;
}

size_t Channel::unread() {
  int bytes = 0;
  return socket_.is_open() && ioctl(socket_.native_handle(), FIONREAD, &bytes) == 0 ? static_cast<size_t>(bytes) : 0;
}

void Channel::push(Bytes bytes) {
  if (deaf_) return;
  unsent_ += bytes.size();
  queue_.push_back(std::move(bytes));
  if (!writing_) write_next();
}

void Channel::write_next() {
  writing_ = true;
  asio::async_write(socket_, asio::buffer(queue_.front()), [self = shared_from_this()](error_code error, size_t) {
    if (!self->socket_.is_open()) return;
    // The other side is gone, but what it said before may be here still: reading finds its end.
    if (error) return self->stop_sending();
    self->unsent_ -= self->queue_.front().size();
    self->queue_.pop_front();
    self->writing_ = false;
    if (!self->queue_.empty()) return self->write_next();
    if (self->handlers_.drained) self->handlers_.drained();
  });
}

void Channel::read_length() {
  read_exactly(4, [](Channel& self) {
    uint32_t const length = length_of(self.incoming_);
    if (length < kSealOverhead || length > kMaxFrame) return self.fail("a frame's length is damaged");
    self.read_exactly(length, [](Channel& me) {
      auto const plain = me.talk_.open(me.incoming_);
      if (!plain) return me.fail("a frame is damaged");
      auto message = decode(*plain);
      if (!message) return me.fail("a message that this version does not know");
      step(name_of(*message), false);
      me.handlers_.message(std::move(*message));
      if (me.socket_.is_open()) me.read_length();
    });
  });
}

vmm::Result<std::unique_ptr<Acceptor>> Acceptor::listen(asio::io_context& io, Address const& at,
                                                        std::function<void(Socket)> on_socket) {
  auto const fd = open_listening(at);
  if (!fd) return tl::unexpected(fd.error());
  return std::make_unique<Acceptor>(io, *fd, std::move(on_socket));
}

Acceptor::Acceptor(asio::io_context& io, int fd, std::function<void(Socket)> on_socket)
    : acceptor_(io), on_socket_(std::move(on_socket)) {
  Address const at = Address::local_name(fd);
  acceptor_.assign(asio::generic::stream_protocol(at.family(), 0), fd);
  next();
}

Address Acceptor::address() {
  return Address::local_name(acceptor_.native_handle());
}

void Acceptor::next() {
  acceptor_.async_accept([this, alive = alive_](error_code error, Socket socket) {
    if (!*alive) return;
    if (error == asio::error::operation_aborted) return;
    if (!error) on_socket_(std::move(socket));
    if (*alive) next();
  });
}

}  // namespace vmsrs::runtime::replicate
