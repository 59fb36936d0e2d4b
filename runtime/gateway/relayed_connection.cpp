#include "runtime/gateway/relayed_connection.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <cstring>

namespace asio = boost::asio;
using boost::system::error_code;

namespace vmsrs::runtime::gateway {
namespace {

void no_delay(replicate::Socket& socket) {
  int const on = 1;
  setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// close() then sends a reset: the other side learns that this was no orderly end.
void close_hard(replicate::Socket& socket) {
  linger const now{1, 0};
  setsockopt(socket.native_handle(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  error_code ignored;
  socket.close(ignored);
}

}  // namespace

RelayedConnection::RelayedConnection(uint64_t id, uint64_t listener, replicate::Socket client, Owner owner)
    : id_(id), listener_(listener), client_(std::move(client)), owner_(std::move(owner)) {
  no_delay(client_);
  client_address_ = replicate::Address::peer_name(client_.native_handle());
  server_address_ = replicate::Address::local_name(client_.native_handle());
}

void RelayedConnection::start() {
  read_client();
}

void RelayedConnection::connect_inside(replicate::Socket inside) {
  ++generation_;
  inside_.emplace(std::move(inside));
  no_delay(*inside_);
  inside_ended_ = inside_reset_ = end_sent_ = false;
  reading_inside_ = writing_inside_ = false;
  write_inside();
  read_inside();
}

void RelayedConnection::close_inside() {
  ++generation_;
  if (inside_) close_hard(*inside_);
  inside_.reset();
}

RelayedConnection::Failover RelayedConnection::rewind(uint64_t read, uint64_t written, bool known) {
  Failover told;
  told.possible = read >= input_.base() && written <= output_.end();
  close_inside();
  known_ = known;
  guest_closed_ = false;
  inside_ended_ = inside_reset_ = end_sent_ = false;
  told.replayed = input_.end() - std::min(read, input_.end());
  input_sent_ = read;
  // What has left already cannot be called back: the next guest must say the same.
  comparing_ = output_sent_ > written;
  compared_ = written;
  if (comparing_) told.unsafe = output_sent_ - written;
  output_.cut(std::max(written, output_sent_));
  demanded_ = 0;
  return told;
}

void RelayedConnection::reset() {
  if (ended_) return;
  close_hard(client_);
  client_gone_ = client_ended_ = true;
  end();
}

void RelayedConnection::end() {
  if (ended_) return;
  ended_ = true;
  close_inside();
  error_code ignored;
  client_.close(ignored);
  if (owner_.ended) owner_.ended();
}

uint64_t RelayedConnection::allowed() const {
  return all_out_ || relaxed_ ? output_.end() : std::min(safe_, output_.end());
}

bool RelayedConnection::output_waits() const {
  if (ended_ || client_gone_) return false;
  return output_.end() > allowed() || (inside_ended_ && !all_out_ && !shut_safe_ && !closed_safe_);
}

void RelayedConnection::safe(uint64_t read, uint64_t written, bool write_shut) {
  input_.forget_before(read);
  safe_ = std::max(safe_, written);
  shut_safe_ = write_shut;
  output_.forget_before(std::min(safe_, output_sent_));
  read_client();
  write_client();
  read_inside();
}

void RelayedConnection::safe_closed() {
  closed_safe_ = true;
  safe_ = output_.end();
  write_client();
}

void RelayedConnection::let_all_out(bool on) {
  all_out_ = on;
  write_client();
}

void RelayedConnection::relax(bool on) {
  relaxed_ = on;
}

void RelayedConnection::demand(uint64_t written) {
  demanded_ = std::max(demanded_, written);
  read_inside();
}

void RelayedConnection::read_client() {
  uint64_t const kept = all_out_ ? input_.end() - input_sent_ : input_.size();
  if (reading_client_ || client_ended_ || ended_ || kept >= kMostKept) return;
  reading_client_ = true;
  client_.async_read_some(asio::buffer(from_client_), [self = shared_from_this()](error_code error, size_t n) {
    self->reading_client_ = false;
    if (self->ended_) return;
    if (error) {
      self->client_ended_ = true;
      if (error != asio::error::eof) self->client_gone_ = true;
    } else {
      self->input_.append(std::span(self->from_client_).first(n));
      self->read_client();
    }
    self->write_inside();
    if (self->client_gone_) self->write_client();
  });
}

void RelayedConnection::write_inside() {
  if (!inside_ || writing_inside_ || ended_) return;
  auto const next = input_.from(input_sent_, kPiece);
  if (next.empty()) {
    if (!client_ended_ || end_sent_) return;
    end_sent_ = true;
    error_code ignored;
    if (client_gone_) {
      // As the guest would see it: its end is reset as well. What it still says has no reader.
      inside_ended_ = inside_reset_ = true;
      close_inside();
      if (all_out_) return end();
      owner_.output_came();
    } else {
      inside_->shutdown(replicate::Socket::shutdown_send, ignored);
    }
    return;
  }
  writing_inside_ = true;
  to_inside_.assign(next.begin(), next.end());
  asio::async_write(*inside_, asio::buffer(to_inside_),
                    [self = shared_from_this(), generation = generation_](error_code error, size_t n) {
                      if (generation != self->generation_ || self->ended_) return;
                      self->writing_inside_ = false;
                      self->input_sent_ += n;
                      // What the guest has not read yet may still be asked for by a first epoch: its kernel holds less.
                      if (self->all_out_) {
                        self->input_.forget_before(self->input_sent_ - std::min(self->input_sent_, kMostUnread));
                      }
                      self->read_client();
                      // An error: the guest closed its end, and reading tells.
                      if (!error) self->write_inside();
                    });
}

void RelayedConnection::read_inside() {
  if (!inside_ || reading_inside_ || inside_ended_ || ended_) return;
  if (output_.size() >= kMostKept && output_.end() >= demanded_) return;
  reading_inside_ = true;
  from_inside_.resize(kPiece);
  inside_->async_read_some(asio::buffer(from_inside_),
                           [self = shared_from_this(), generation = generation_](error_code error, size_t n) {
                             if (generation != self->generation_ || self->ended_) return;
                             self->reading_inside_ = false;
                             if (error) {
                               self->inside_ended_ = true;
                               self->inside_reset_ = error != asio::error::eof;
                             } else {
                               self->take_output(std::span(self->from_inside_).first(n));
                               if (self->diverged_) return self->reset();
                             }
                             self->write_client();
                             if (self->ended_) return;
                             self->owner_.output_came();
                             self->read_inside();
                           });
}

void RelayedConnection::take_output(std::span<std::byte const> bytes) {
  if (comparing_) {
    auto const old = output_.from(compared_, bytes.size());
    size_t const n = std::min<uint64_t>(old.size(), output_sent_ - compared_);
    if (std::memcmp(old.data(), bytes.data(), n) != 0) {
      diverged_ = true;
      return;
    }
    compared_ += n;
    repeated_ += n;
    comparing_ = compared_ < output_sent_;
    bytes = bytes.subspan(n);
  }
  output_.append(bytes);
}

void RelayedConnection::write_client() {
  if (ended_ || writing_client_) return;
  if (client_gone_) {
    // Nobody listens: what was said counts as delivered.
    output_sent_ = std::max(output_sent_, allowed());
    output_.forget_before(std::min(safe_, output_sent_));
    if (closed_safe_ || (all_out_ && inside_ended_)) end();
    return;
  }
  uint64_t const until = allowed();
  if (output_sent_ >= until) return finish_client();
  auto const next = output_.from(output_sent_, std::min<size_t>(kPiece, until - output_sent_));
  writing_client_ = true;
  to_client_.assign(next.begin(), next.end());
  asio::async_write(client_, asio::buffer(to_client_), [self = shared_from_this()](error_code error, size_t n) {
    self->writing_client_ = false;
    if (self->ended_) return;
    self->output_sent_ += n;
    if (self->owner_.left) self->owner_.left(n);
    if (self->all_out_) self->safe_ = std::max(self->safe_, self->output_sent_);
    self->output_.forget_before(std::min(self->safe_, self->output_sent_));
    if (error) {
      self->client_gone_ = self->client_ended_ = true;
      self->write_inside();
    }
    self->read_inside();
    self->write_client();
  });
}

// Everything that may leave has left.
void RelayedConnection::finish_client() {
  if (output_sent_ < output_.end() || comparing_) return;
  bool const over = closed_safe_ || (all_out_ && inside_ended_);
  if (over && inside_reset_ && !client_ended_) return reset();
  if ((over || (shut_safe_ && inside_ended_)) && !finished_client_) {
    finished_client_ = true;
    error_code ignored;
    client_.shutdown(replicate::Socket::shutdown_send, ignored);
  }
  if (closed_safe_ || (over && client_ended_)) end();
}

}  // namespace vmsrs::runtime::gateway
