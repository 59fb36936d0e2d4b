// A small server whose whole state is bytes: what a guest is to the epochs' protocol, without a VM. It keeps one
// register:
//
//   "W VALUE\n"  →  "VERSION VALUE\n"   writes, each of which gets the next version
//   "R\n"        →  "VERSION VALUE\n"   reads
//
// One thread serves all connections; it holds `world` while it does, so that an epoch's boundary lies between two
// requests' bytes. What each connection was read and written is counted.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/replicate/named_socket.hpp"
#include "runtime/replicate/primary.hpp"

namespace failover {

using namespace vmsrs::runtime::replicate;

class Replica : public EpochSource {
 public:
  struct Connection {
    uint64_t id = 0, read = 0, written = 0;
    std::string partial;
    int fd = -1;
    template <class C>
    void each(C& c) {
      c(id), c(read), c(written), c(partial);
    }
  };
  struct State {
    uint64_t version = 0, epoch = 0;
    std::string value = "none";
    std::vector<Connection> connections;
    template <class C>
    void each(C& c) {
      c(version), c(value), c(connections);
    }
  };

  // A first start: binds `port` (0: any) through the gateway; the port, or 0.
  uint16_t listen(GatewayLink& link, uint16_t port) {
    Address wanted = Address::loopback(), outside;
    wanted.set_port(port);
    if (link.bind({1, wanted, false, false}, outside) != 0 || !open_inside(link)) return 0;
    return outside.port();
  }
  // From an epoch.
  bool restore(GatewayLink& link, Bytes const& bytes) {
    Reader reader(bytes);
    state_.each(reader);
    if (!reader.finished()) return false;
    for (Connection& c : state_.connections) {
      Attached told;
      c.fd = link.attach(c.id, c.read, c.written, told);
      if (c.fd < 0) closed_.push_back(c.id);
    }
    std::erase_if(state_.connections, [](Connection const& c) { return c.fd < 0; });
    return open_inside(link);
  }
  void opening(Opening const& what) {
    std::lock_guard const guard(openings_mutex_);
    openings_[what.source.plain()] = what.connection;
  }

  vmm::Result<TakenEpoch> take(bool full, std::function<bool()> const& before) override {
    if (!before()) return vmm::fail(vmm::Errc::kBusy, "not now");
    std::lock_guard const guard(world_);
    TakenEpoch epoch;
    epoch.number = ++state_.epoch;
    epoch.full = full;
    Writer writer(epoch.bytes);
    state_.each(writer);
    for (Connection const& c : state_.connections) epoch.open.push_back({c.id, c.read, c.written, false});
    epoch.closed = std::exchange(closed_, {});
    return epoch;
  }

  [[noreturn]] void serve() {
    for (;;) {
      std::vector<pollfd> polled = {{listening_, POLLIN, 0}};
      for (Connection const& c : state_.connections) polled.push_back({c.fd, POLLIN, 0});
      poll(polled.data(), polled.size(), 1000);
      std::lock_guard const guard(world_);
      for (size_t i = 1; i < polled.size(); ++i) {
        if (polled[i].revents != 0) serve(state_.connections[i - 1]);
      }
      std::erase_if(state_.connections, [](Connection const& c) { return c.fd < 0; });
      if (polled[0].revents != 0) accept();
    }
  }

 private:
  bool open_inside(GatewayLink& link) {
    auto const fd = open_listening(Address::loopback());
    if (!fd) return false;
    listening_ = *fd;
    return link.listen({1, Address::local_name(listening_), 64}) == 0;
  }
  void accept() {
    int const fd = accept4(listening_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    std::lock_guard const guard(openings_mutex_);
    auto const found = openings_.extract(Address::peer_name(fd).plain());
    if (found.empty()) {
      close(fd);  // a stranger
      return;
    }
    state_.connections.push_back({found.mapped(), 0, 0, "", fd});
  }
  void serve(Connection& c) {
    char buffer[4096];
    ssize_t const n = recv(c.fd, buffer, sizeof buffer, 0);
    if (n <= 0) {
      closed_.push_back(c.id);
      close(std::exchange(c.fd, -1));
      return;
    }
    c.read += static_cast<uint64_t>(n);
    c.partial.append(buffer, static_cast<size_t>(n));
    for (size_t end; (end = c.partial.find('\n')) != std::string::npos; c.partial.erase(0, end + 1)) {
      if (c.partial[0] == 'W') {
        ++state_.version;
        state_.value = c.partial.substr(2, end - 2);
      }
      std::string const answer = std::to_string(state_.version) + " " + state_.value + "\n";
      (void)!send(c.fd, answer.data(), answer.size(), MSG_NOSIGNAL);
      c.written += answer.size();
    }
  }

  std::mutex world_, openings_mutex_;
  State state_;
  std::vector<uint64_t> closed_;
  std::map<Address, uint64_t> openings_;
  int listening_ = -1;
};

}  // namespace failover
