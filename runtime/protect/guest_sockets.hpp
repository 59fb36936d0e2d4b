// A guest's TCP servers behind the gateway (runtime/gateway/gateway.hpp), seen from the guest's monitor.
//
// What the guest binds is bound by the gateway; the guest's own socket listens inside: on loopback where the gateway is
// on this host, else on the address that leads to it. The gateway alone may come there: from addresses that it has
// announced. The guest is told the names that it would have
// without: its own as the clients see it, and the clients'.
//
// At an epoch it says which of the guest's connections the gateway keeps, and how far each is; at a restore it connects
// them anew.
//
// A connection's bytes are counted by the host (TCP_INFO), from 0 for a connection made at a restore: what was before
// is added here. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "runtime/checkpoint/connections.hpp"
#include "runtime/replicate/gateway_link.hpp"
#include "vmm/socket_relay.hpp"

namespace vmsrs::runtime::protect {

class GuestSockets : public vmm::SocketRelay, public checkpoint::ConnectionOwner {
 public:
  // Before anything else is called; it must outlive this. `gateway`: where it is.
  void use(replicate::GatewayLink& link, replicate::Address const& gateway);
  // What the link tells (GatewayLink::Handlers::opening).
  void opening(replicate::Opening const& what);

  // vmm::SocketRelay
  int bind(int fd, vmm::SocketAddress const& wanted) override;
  int listening(int fd, int backlog) override;
  bool admit(int fd, vmm::SocketAddress& peer) override;
  void rename(int fd, bool of_peer, vmm::SocketAddress& name) override;

  // checkpoint::ConnectionOwner
  void boundary() override;
  std::optional<Claim> claim(checkpoint::Endpoint const& local, checkpoint::Endpoint const& peer) override;
  int attach(checkpoint::Connection const& connection) override;
  checkpoint::Endpoint listen_at(checkpoint::Endpoint const& original) override;
  void listening(checkpoint::Endpoint const& original, checkpoint::Endpoint const& actual) override;

  // The marks of the last boundary, which found these connections open, and what the guest has closed since the one
  // before.
  struct Marks {
    std::vector<replicate::ConnectionMark> open;
    std::vector<uint64_t> closed;
  };
  Marks marks(std::vector<checkpoint::Connection> const& found);

 private:
  using Address = replicate::Address;
  using Ends = std::pair<Address, Address>;  // local, peer, both plain
  struct Listener {
    uint64_t id = 0;
    Address outside;
    bool told = false;  // the gateway knows that it listens
  };
  struct Known {
    uint64_t id = 0;
    Address client, server;
    uint64_t read_before = 0, written_before = 0;  // by connections that it stands for
    bool settled = false;                          // there at the last boundary
  };
  [[nodiscard]] Address inside_of(int domain, bool v6_only) const;
  static Ends ends_of(int fd) { return {Address::local_name(fd).plain(), Address::peer_name(fd).plain()}; }

  replicate::GatewayLink* link_ = nullptr;
  Address inside_ = Address::loopback();
  std::mutex mutex_;
  std::map<Address, Listener> listeners_;            // by the address inside
  std::map<Address, replicate::Opening> announced_;  // by the address that it will come from
  std::map<Ends, Known> connections_;
  std::vector<uint64_t> gone_;  // at the restore
  uint64_t next_listener_ = 1;
};

}  // namespace vmsrs::runtime::protect
