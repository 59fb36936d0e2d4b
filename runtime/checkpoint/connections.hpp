// Connections of the guest that somebody else owns: the gateway (or whatever stands between clients and guest) keeps
// the clients' connections while the guest behind them is replaced by its restored copy.
//
// How far a connection is at an epoch's boundary is taken from the host's own counters (TCP_INFO), so it costs the
// guest's calls nothing. It is known for TCP sockets. A connection that no owner claims is gone after a restore: the
// guest reads ECONNRESET.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vmm/error.hpp"

namespace vmsrs::checkpoint {

struct Endpoint {
  sockaddr_storage address{};
  socklen_t size = 0;
  [[nodiscard]] std::string text() const;  // "127.0.0.1:8080", "[::1]:80", "unix:/run/x"
};

// One connection at an epoch's boundary. The guest is stopped, no call of it is under way: the figures are exact.
struct Connection {
  uint64_t id = 0;           // the owner's own name for it
  uint64_t read = 0;         // bytes that the guest has taken out of it since it was made
  uint64_t written = 0;      // bytes that the guest has put into it since it was made
  bool read_shut = false;    // the guest has read the peer's end of input
  bool write_shut = false;   // the guest has shut down its side
  Endpoint local, peer;      // as the guest sees them
  std::vector<int> numbers;  // the guest's descriptors for it
};

// Implemented by the gateway's side. Called by one thread at a time.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;

  // ---- at an epoch, while the guest is stopped: must be quick and take no lock that a guest's call could hold ----
  struct Claim {
    uint64_t id = 0;  // the owner's name for it
    // The host counts a connection's bytes from 0. What the guest read and wrote before, where this connection stands
    // for another one since a restore.
    uint64_t read_before = 0, written_before = 0;
  };
  virtual void boundary() {}  // before the first claim
  // The connection between these two, seen from the guest; nothing: not mine.
  virtual std::optional<Claim> claim(Endpoint const& local, Endpoint const& peer) = 0;

  // ---- at a restore, before the guest runs ----
  // A connected stream socket (close-on-exec) to put in the connection's place; the checkpoint takes it over. From its
  // other end the guest expects the bytes of its input from offset `read` on; what it sends continues at `written`.
  // Negative: it is gone, and the guest reads ECONNRESET.
  virtual int attach(Connection const& connection) = 0;
  // Where a listening socket of the guest is to listen now: the same address, or another (port 0: any).
  virtual Endpoint listen_at(Endpoint const& original) { return original; }
  // Where it does listen.
  virtual void listening(Endpoint const& /*original*/, Endpoint const& /*actual*/) {}
};

}  // namespace vmsrs::checkpoint
