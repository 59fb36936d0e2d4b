// What primary, backup and gateway say to each other, each message one frame of a Channel (channel.hpp).
//
//   primary → gateway   Hello, Bind, Listen, Unlisten, Opened, Attach, Marks, Safe, Protected, Ended
//   gateway → primary   Welcome, Fenced, Bound, Opening, Attached, Whole, OutputWaits
//   primary → backup    EpochBegin, EpochData…, EpochEnd, EpochSafe, Ended
//   backup → primary    EpochHeld, EpochRefused
//
// A *term* counts primaries: each has a greater one than all before it. An *epoch* is numbered within its term. It is
//   held   when the backup has all of it,
//   whole  when the gateway has its marks, and all output that they count,
//   safe   when it is held and whole. Only then does its output leave, and its input is forgotten.
// A backup takes over at the newest epoch that it holds and that is whole: the gateway says which.
#pragma once

#include <optional>
#include <string_view>
#include <variant>

#include "runtime/replicate/address.hpp"

namespace vmsrs::runtime::replicate {

using Term = uint64_t;

inline constexpr size_t kMaxMessage = 1 << 20;     // bytes of one message
inline constexpr size_t kEpochPiece = 256 * 1024;  // bytes of an epoch in one EpochData

struct EpochName {
  Term term = 0;
  uint64_t number = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): it takes the zero of <=> for a pointer
  auto operator<=>(EpochName const&) const = default;
  template <class C>
  void each(C& c) {
    c(term), c(number);
  }
};

struct Hello {
  static constexpr uint8_t kType = 1;
  Term term = 0;
  bool restored = false;         // it goes on from an epoch; else it is a program's first start
  std::vector<EpochName> holds;  // the epochs that it could go on from
  bool replay = true;            // input behind the epoch is given again; else its connections are reset
  template <class C>
  void each(C& c) {
    c(term), c(restored), c(holds), c(replay);
  }
};

// The guest binds a TCP socket: the gateway binds it for the clients.
struct Bind {
  static constexpr uint8_t kType = 2;
  uint64_t listener = 0;  // the primary's number for it, never used twice within a server's life
  Address address;
  bool v6_only = false, reuse_port = false;
  template <class C>
  void each(C& c) {
    c(listener), c(address), c(v6_only), c(reuse_port);
  }
};

struct Listen {
  static constexpr uint8_t kType = 3;
  uint64_t listener = 0;
  Address inside;  // where the guest listens for the gateway
  int32_t backlog = 0;
  template <class C>
  void each(C& c) {
    c(listener), c(inside), c(backlog);
  }
};

struct Unlisten {
  static constexpr uint8_t kType = 4;
  uint64_t listener = 0;
  template <class C>
  void each(C& c) {
    c(listener);
  }
};

// The answer to Opening: the gateway may connect.
struct Opened {
  static constexpr uint8_t kType = 5;
  uint64_t connection = 0;
  template <class C>
  void each(C& c) {
    c(connection);
  }
};

// A restored guest has this connection: the primary will connect to the gateway from `source`.
struct Attach {
  static constexpr uint8_t kType = 6;
  uint64_t connection = 0;
  uint64_t read = 0, written = 0;
  Address source;
  template <class C>
  void each(C& c) {
    c(connection), c(read), c(written), c(source);
  }
};

struct ConnectionMark {
  uint64_t connection = 0;
  uint64_t read = 0, written = 0;  // bytes by the guest since the connection was made
  bool write_shut = false;
  template <class C>
  void each(C& c) {
    c(connection), c(read), c(written), c(write_shut);
  }
};

// Where each connection stood at an epoch's boundary.
struct Marks {
  static constexpr uint8_t kType = 7;
  uint64_t epoch = 0;
  std::vector<ConnectionMark> open;
  std::vector<uint64_t> closed;  // by the guest, since the epoch before
  template <class C>
  void each(C& c) {
    c(epoch), c(open), c(closed);
  }
};

// The backup holds the epoch.
struct Safe {
  static constexpr uint8_t kType = 8;
  uint64_t epoch = 0;
  template <class C>
  void each(C& c) {
    c(epoch);
  }
};

// Whether there is a backup. Without one output leaves at once.
struct Protected {
  static constexpr uint8_t kType = 9;
  bool on = false;
  template <class C>
  void each(C& c) {
    c(on);
  }
};

// The program ended by itself: nobody takes over.
struct Ended {
  static constexpr uint8_t kType = 10;
  int32_t status = 0;
  template <class C>
  void each(C& c) {
    c(status);
  }
};

struct KnownListener {
  uint64_t listener = 0;
  Address inside, outside;
  bool listening = false;
  template <class C>
  void each(C& c) {
    c(listener), c(inside), c(outside), c(listening);
  }
};

struct Welcome {
  static constexpr uint8_t kType = 32;
  EpochName resume;  // of a restored primary: the epoch to go on from
  Address data;      // where Attach connects to
  std::vector<KnownListener> listeners;
  template <class C>
  void each(C& c) {
    c(resume), c(data), c(listeners);
  }
};

// The term is over: this primary must do nothing any more.
struct Fenced {
  static constexpr uint8_t kType = 33;
  Term term = 0;
  std::string why;
  template <class C>
  void each(C& c) {
    c(term), c(why);
  }
};

// The answer to Bind and to Listen.
struct Bound {
  static constexpr uint8_t kType = 34;
  uint64_t listener = 0;
  int32_t error = 0;  // an errno
  Address outside;
  template <class C>
  void each(C& c) {
    c(listener), c(error), c(outside);
  }
};

// A client came: the gateway will connect to the guest's listening socket from `source`.
struct Opening {
  static constexpr uint8_t kType = 35;
  uint64_t connection = 0, listener = 0;
  Address source, client, server;  // server: the address that the client connected to
  template <class C>
  void each(C& c) {
    c(connection), c(listener), c(source), c(client), c(server);
  }
};

// The answer to Attach; gone: the gateway does not know it any more.
struct Attached {
  static constexpr uint8_t kType = 36;
  uint64_t connection = 0;
  bool gone = false;
  Address client, server;
  template <class C>
  void each(C& c) {
    c(connection), c(gone), c(client), c(server);
  }
};

struct Whole {
  static constexpr uint8_t kType = 37;
  uint64_t epoch = 0;
  template <class C>
  void each(C& c) {
    c(epoch);
  }
};

// Output waits that no epoch covers yet: closing one early would let it go.
struct OutputWaits {
  static constexpr uint8_t kType = 38;
  template <class C>
  void each(C&) {}
};

struct EpochBegin {
  static constexpr uint8_t kType = 64;
  EpochName epoch;
  bool full = false;
  uint64_t size = 0;
  template <class C>
  void each(C& c) {
    c(epoch), c(full), c(size);
  }
};

struct EpochData {
  static constexpr uint8_t kType = 65;
  Bytes bytes;
  template <class C>
  void each(C& c) {
    c(bytes);
  }
};

struct EpochEnd {
  static constexpr uint8_t kType = 66;
  EpochName epoch;
  std::array<std::byte, 32> digest{};  // BLAKE2b-256 of its bytes
  template <class C>
  void each(C& c) {
    c(epoch), c(digest);
  }
};

// Epochs before this one are not gone back to any more.
struct EpochSafe {
  static constexpr uint8_t kType = 67;
  EpochName epoch;
  template <class C>
  void each(C& c) {
    c(epoch);
  }
};

struct EpochHeld {
  static constexpr uint8_t kType = 96;
  EpochName epoch;
  template <class C>
  void each(C& c) {
    c(epoch);
  }
};

struct EpochRefused {
  static constexpr uint8_t kType = 97;
  EpochName epoch;
  std::string why;
  template <class C>
  void each(C& c) {
    c(epoch), c(why);
  }
};

using Message = std::variant<Hello, Bind, Listen, Unlisten, Opened, Attach, Marks, Safe, Protected, Ended, Welcome,
                             Fenced, Bound, Opening, Attached, Whole, OutputWaits, EpochBegin, EpochData, EpochEnd,
                             EpochSafe, EpochHeld, EpochRefused>;

Bytes encode(Message const& message);
// Nothing: no message of ours, cut short, or with something behind it.
std::optional<Message> decode(std::span<std::byte const> bytes);
std::string_view name_of(Message const& message);

}  // namespace vmsrs::runtime::replicate
