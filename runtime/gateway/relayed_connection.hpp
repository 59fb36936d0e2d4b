// One client's connection and the guest's end of it. What each side sent is numbered by bytes since the connection was
// made; those numbers outlive the guest's end, which is replaced at a failover.
//
//   client ── input ──▶ guest     kept from the offset that a safe epoch has read on
//   client ◀── output ─ guest     leaves up to the offset that may leave; kept from the safe offset on where it has
//                                 left before it was safe (relaxed)
//
// Use: on the gateway's thread only. Held by shared_ptr, since operations under way keep it.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>

#include "runtime/gateway/stream_window.hpp"
#include "runtime/replicate/channel.hpp"

namespace vmsrs::runtime::gateway {

class RelayedConnection : public std::enable_shared_from_this<RelayedConnection> {
 public:
  struct Owner {
    std::function<void()> output_came;  // or the guest's end ended
    std::function<void()> ended;        // both sides are done with it
    std::function<void(uint64_t bytes)> left;
  };
  struct Failover {
    uint64_t replayed = 0;  // bytes of input that are given again
    uint64_t unsafe = 0;    // bytes of output that had left and are not covered
    bool possible = true;   // false: its input is not there any more, reset() is left
  };
  RelayedConnection(uint64_t id, uint64_t listener, replicate::Socket client, Owner owner);

  void start();                                   // reads from the client
  void connect_inside(replicate::Socket inside);  // the guest's end, connected
  // The guest is gone; what it said and no epoch covers is void. It goes on from these offsets.
  // `known`: its state has the connection; else it is opened anew.
  Failover rewind(uint64_t read, uint64_t written, bool known);
  // The guest is gone, and the connection with it: the client sees a reset.
  void reset();

  // The guest's output up to `written` may leave, and its input up to `read` is not needed any more.
  void safe(uint64_t read, uint64_t written, bool write_shut);
  void safe_closed();         // the guest closed it, within a safe epoch
  void let_all_out(bool on);  // whatever the guest sends leaves at once
  void relax(bool on);        // the same, but it is kept for comparison, and an end waits until it is safe
  // The guest wrote up to here: it is fetched whatever the limits say.
  void demand(uint64_t written);

  [[nodiscard]] uint64_t id() const { return id_; }
  [[nodiscard]] uint64_t listener() const { return listener_; }
  [[nodiscard]] uint64_t output_end() const { return output_.end(); }
  // Everything that the guest ever wrote on its present end has come, and nothing more will.
  [[nodiscard]] bool inside_ended() const { return inside_ended_; }
  [[nodiscard]] bool has_inside() const { return inside_.has_value(); }
  [[nodiscard]] bool client_gone() const { return client_gone_; }
  [[nodiscard]] bool ended() const { return ended_; }
  // The guest has it, or will have it: it was told, or its state says so.
  [[nodiscard]] bool known() const { return known_; }
  void set_known(bool known) { known_ = known; }
  // The guest closed it, in an epoch that may not be safe yet.
  [[nodiscard]] bool guest_closed() const { return guest_closed_; }
  void set_guest_closed() { guest_closed_ = true; }
  [[nodiscard]] bool output_waits() const;
  [[nodiscard]] uint64_t diverged() const { return diverged_ ? 1 : 0; }
  [[nodiscard]] uint64_t repeated() const { return repeated_; }
  [[nodiscard]] replicate::Address const& client_address() const { return client_address_; }
  [[nodiscard]] replicate::Address const& server_address() const { return server_address_; }

 private:
  static constexpr size_t kPiece = 64 * 1024, kMostKept = 4 << 20;
  static constexpr uint64_t kMostUnread = 8 << 20;
  void read_client();
  void write_inside();
  void read_inside();
  void write_client();
  void take_output(std::span<std::byte const> bytes);
  void finish_client();
  void close_inside();
  void end();
  [[nodiscard]] uint64_t allowed() const;

  uint64_t id_, listener_;
  replicate::Socket client_;
  std::optional<replicate::Socket> inside_;
  uint64_t generation_ = 0;  // of inside_: an operation on an earlier one means nothing
  Owner owner_;
  replicate::Address client_address_, server_address_;

  StreamWindow input_, output_;
  uint64_t input_sent_ = 0;   // to the present end
  uint64_t output_sent_ = 0;  // to the client
  uint64_t safe_ = 0;         // output that a safe epoch covers
  uint64_t demanded_ = 0;
  uint64_t compared_ = 0;  // the next byte of output is at this offset: the client has what is kept from here on
  bool comparing_ = false;
  bool client_ended_ = false, client_gone_ = false;  // no more input; nobody there any more
  bool inside_ended_ = false, inside_reset_ = false;
  bool end_sent_ = false;                         // to the guest
  bool shut_safe_ = false, closed_safe_ = false;  // the guest's shutdown, its close
  bool all_out_ = false, relaxed_ = false, known_ = false, guest_closed_ = false;
  bool reading_client_ = false, writing_client_ = false, reading_inside_ = false, writing_inside_ = false;
  bool finished_client_ = false, ended_ = false, diverged_ = false;
  uint64_t repeated_ = 0;
  std::array<std::byte, kPiece> from_client_;
  std::vector<std::byte> to_client_, from_inside_, to_inside_;
};

}  // namespace vmsrs::runtime::gateway
