// How an application is asked whether it serves: one request over TCP, and the beginning of its answer.
//
//   tcp://HOST:PORT[?send=TEXT&expect=TEXT&keep=1]   TEXT with %XX escapes; without send and expect an accepted
//                                                    connection is the answer, which the kernel alone may give
//   http://HOST:PORT/PATH[?…]                        any status line is an answer
//
// HOST is an IPv4 address or "localhost". A new connection for each probe, as a user would make one, so that a server
// that takes no more connections is seen; keep=1 uses one connection for all, so that a path that was cut is seen.
#pragma once

#include <netinet/in.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "vmm/error.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime::detect {

struct ProbeSpec {
  sockaddr_in address{};
  std::string send, expect;
  bool keep = false;
  static vmm::Result<ProbeSpec> parse(std::string const& url);
};

struct ProbeResult {
  enum class Kind : uint8_t { kAnswered, kNoAnswer, kRefused, kGivenUp } kind = Kind::kNoAnswer;
  uint64_t took_us = 0;
  bool connected = false;
  bool unacknowledged = false;  // sent, and the other side's TCP did not say that it has it
  bool wrong = false;           // an answer, but not the one expected
};

// Not thread-safe.
class Prober {
 public:
  explicit Prober(ProbeSpec spec) : spec_(std::move(spec)) {}
  // One probe; at most timeout_ms, plus the time by which this thread got its processor too late, for then an answer
  // may lie there unread. `give_up` is asked every 20 ms; true ends it with kGivenUp.
  ProbeResult ask(uint64_t timeout_ms, std::function<bool()> const& give_up);
  [[nodiscard]] ProbeSpec const& spec() const { return spec_; }

 private:
  bool connect(uint64_t deadline_ns, std::function<bool()> const& give_up, ProbeResult& result);
  ProbeSpec spec_;
  vmm::ScopedFd socket_;
};

// Whether the queue of connections of the socket that listens there is full (inet_diag of this network namespace).
// False: it is not, or nobody listens, or the kernel does not tell.
bool accept_queue_full(sockaddr_in const& address);

}  // namespace vmsrs::runtime::detect
