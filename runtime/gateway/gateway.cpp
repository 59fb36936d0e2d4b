#include "runtime/gateway/gateway.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include "runtime/replicate/named_socket.hpp"

namespace asio = boost::asio;
using boost::system::error_code;

namespace vmsrs::runtime::gateway {

using namespace replicate;

struct Gateway::Primary {
  std::shared_ptr<Channel> channel;
  Term term = 0;
  // Clients that wait until the primary says that it knows where they come from; then the sockets are connected.
  std::map<uint64_t, Socket> opening;
  int patience = 100;  // milliseconds that it waits for what the one before it has said
  ~Primary() {
    if (channel) channel->shut();
  }
};

vmm::Result<std::unique_ptr<Gateway>> Gateway::start(asio::io_context& io, GatewayConfig config) {
  std::unique_ptr<Gateway> self(new Gateway(io, std::move(config)));
  auto control =
      Acceptor::listen(io, self->config_.control, [gateway = self.get()](Socket s) { gateway->arrived(std::move(s)); });
  if (!control) return tl::unexpected(control.error());
  auto data = Acceptor::listen(io, self->config_.data,
                               [gateway = self.get()](Socket s) { gateway->inside_came(std::move(s)); });
  if (!data) return tl::unexpected(data.error());
  self->control_ = std::move(*control);
  self->data_ = std::move(*data);
  return self;
}

Gateway::~Gateway() {
  for (auto const& [id, connection] : connections_) connection->reset();
  for (auto const& [id, listener] : listeners_) {
    if (listener.bound >= 0) close(listener.bound);
  }
}

void Gateway::note(std::string const& text) const {
  if (config_.note) config_.note(text);
}

void Gateway::answer(Message const& message) {
  if (primary_) primary_->channel->send(message);
}

Gateway::Figures Gateway::figures() const {
  Figures figures = figures_;
  for (auto const& [id, connection] : connections_) figures.repeated_bytes += connection->repeated();
  return figures;
}

void Gateway::arrived(Socket socket) {
  auto const stranger = std::make_shared<Primary>();
  std::weak_ptr<Primary> const weak = stranger;
  stranger->channel = Channel::accept(std::move(socket), config_.key, Purpose::kControl,
                                      {{},
                                       [this, weak](Message&& message) {
                                         if (auto const from = weak.lock()) said(from, std::move(message));
                                       },
                                       [this, weak](std::string const& why) {
                                         if (auto const from = weak.lock()) lost(from, why);
                                       },
                                       {}});
  strangers_.push_back(stranger);
}

void Gateway::lost(std::shared_ptr<Primary> const& who, std::string const& why) {
  std::erase(strangers_, who);
  if (who != primary_) return;
  note(fmt::format("the primary of term {} is gone: {}", term_, why));
  primary_.reset();
}

void Gateway::said(std::shared_ptr<Primary> const& from, Message&& message) {
  if (auto const* const first = std::get_if<Hello>(&message)) {
    if (from != primary_) hello(from, *first);
    return;
  }
  // Fencing: whoever is not the present primary has no effect.
  if (from != primary_) return;
  std::visit(
      [&](auto&& m) {
        using T = std::remove_cvref_t<decltype(m)>;
        if constexpr (std::is_same_v<T, Bind>) {
          bind(m);
        } else if constexpr (std::is_same_v<T, Listen>) {
          listen(m);
        } else if constexpr (std::is_same_v<T, Unlisten>) {
          auto const found = listeners_.find(m.listener);
          if (found == listeners_.end()) return;
          if (found->second.bound >= 0) close(found->second.bound);
          listeners_.erase(found);
          for (auto const& [id, connection] : connections_) {
            if (connection->listener() == m.listener && !connection->known()) connection->reset();
          }
        } else if constexpr (std::is_same_v<T, Opened>) {
          auto const socket = from->opening.extract(m.connection);
          auto const connection = connections_.find(m.connection);
          if (socket.empty() || connection == connections_.end()) return;
          auto const listener = listeners_.find(connection->second->listener());
          if (listener == listeners_.end()) return connection->second->reset();
          auto const inside = std::make_shared<Socket>(std::move(socket.mapped()));
          Address const to = listener->second.inside;
          inside->async_connect(asio::generic::stream_protocol::endpoint(to.get(), to.size()),
                                [this, inside, relayed = connection->second, term = term_](error_code error) {
                                  if (term != term_) return;  // it is opened anew
                                  if (!error) return relayed->connect_inside(std::move(*inside));
                                  relayed->set_known(false);
                                  open_later();
                                });
        } else if constexpr (std::is_same_v<T, Attach>) {
          attach(m);
        } else if constexpr (std::is_same_v<T, Marks>) {
          marks(std::forward<decltype(m)>(m));
        } else if constexpr (std::is_same_v<T, Safe>) {
          held_ = std::max(held_, m.epoch);
          release();
        } else if constexpr (std::is_same_v<T, Protected>) {
          protected_ = m.on;
          if (!m.on) {
            // Output leaves from here on that no epoch covers: none may be gone back to.
            epochs_.clear();
            note("there is no backup");
          } else {
            note(config_.strict ? "protected, strict" : "protected, relaxed");
          }
          for (auto const& [id, connection] : connections_) {
            connection->relax(protected_ && !config_.strict);
            connection->let_all_out(!protected_);
          }
          drop_ended();
          answer(m);
        } else if constexpr (std::is_same_v<T, Ended>) {
          ended_ = true;
          for (auto const& [id, connection] : connections_) connection->let_all_out(true);
          drop_ended();
          if (config_.on_ended) config_.on_ended(m.status);
        }
      },
      std::move(message));
}

void Gateway::hello(std::shared_ptr<Primary> const& from, Hello const& hello) {
  bool const current = hello.term > term_ && (!config_.term_is_current || config_.term_is_current(hello.term));
  if (!current) {
    ++figures_.fenced;
    note(fmt::format("term {} refused: term {} is the present one", hello.term, term_));
    from->channel->send(Fenced{term_, "a newer primary is at work"});
    return;
  }
  // What the primary before said last counts: marks that came decide which epoch is whole.
  if (primary_ && primary_->channel->unread() != 0 && from->patience-- > 0) {
    auto const timer = std::make_shared<asio::steady_timer>(io_, std::chrono::milliseconds(1));
    timer->async_wait([this, timer, from, hello](error_code) {
      if (from->channel->is_open()) this->hello(from, hello);
    });
    return;
  }
  EpochName resume;
  if (hello.restored) {
    for (EpochName const epoch : hello.holds) {
      bool const whole = epochs_.contains(epoch) && (epoch <= safe_ || (epoch.term == term_ && epoch.number <= whole_));
      if (whole && epoch >= safe_ && epoch > resume) resume = epoch;
    }
    if (resume.number == 0) {
      ++figures_.fenced;
      note(fmt::format("term {} refused: it holds no epoch that could be gone back to", hello.term));
      from->channel->send(Fenced{term_, "none of the epochs held can be gone back to"});
      return;
    }
  } else if (term_ != 0) {
    // A program started anew knows nothing of the connections of the one before.
    for (auto const& [id, connection] : connections_) connection->reset();
    listeners_.clear();
  }
  term_ = hello.term;
  primary_ = from;
  primary_->term = term_;
  std::erase(strangers_, from);
  whole_ = held_ = 0;
  protected_ = output_waits_told_ = false;
  attaching_.clear();
  Welcome welcome;
  welcome.resume = resume;
  welcome.data = data_->address();
  for (auto const& [id, listener] : listeners_) {
    welcome.listeners.push_back({id, listener.inside, listener.outside, listener.acceptor != nullptr});
  }
  if (hello.restored) {
    this->resume(hello, resume);
  } else {
    for (auto const& [id, connection] : connections_) connection->let_all_out(true);
  }
  drop_ended();
  note(fmt::format("the primary of term {} is here{}", term_,
                   hello.restored ? fmt::format(", restored at epoch {} of term {}", resume.number, resume.term) : ""));
  answer(welcome);
}

// Each connection goes back to where the epoch left it.
void Gateway::resume(Hello const& hello, EpochName epoch) {
  ++figures_.failovers;
  std::map<uint64_t, ConnectionMark> open;
  std::vector<uint64_t> closed;
  for (auto const& [name, marks] : epochs_) {
    if (name > epoch) break;
    closed.insert(closed.end(), marks.closed.begin(), marks.closed.end());
    if (name == epoch) {
      for (ConnectionMark const& mark : marks.open) open[mark.connection] = mark;
    }
  }
  for (uint64_t const id : closed) {
    auto const found = connections_.find(id);
    if (found != connections_.end()) found->second->safe_closed();
  }
  for (auto const& [id, connection] : connections_) {
    if (std::ranges::find(closed, id) != closed.end()) continue;
    auto const found = open.find(id);
    ConnectionMark const mark = found == open.end() ? ConnectionMark{id, 0, 0, false} : found->second;
    auto const told = connection->rewind(mark.read, mark.written, found != open.end());
    figures_.unsafe_bytes += told.unsafe;
    bool const suspect = !hello.replay && told.replayed != 0;
    if (!told.possible || suspect) {
      ++figures_.reset_at_failover;
      connection->reset();
      continue;
    }
    figures_.replayed_bytes += told.replayed;
    connection->safe(mark.read, mark.written, mark.write_shut);
    connection->relax(false);
    connection->let_all_out(true);
  }
  epochs_.clear();
  safe_ = epoch;
}

void Gateway::bind(Bind const& what) {
  Bound bound{what.listener, 0, {}};
  int const fd = socket(what.address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int const on = 1;
  if (fd < 0) {
    bound.error = errno;
    return answer(bound);
  }
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (what.reuse_port) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  int const only = what.v6_only ? 1 : 0;
  if (what.address.family() == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  if (::bind(fd, what.address.get(), what.address.size()) != 0) {
    bound.error = errno;
    close(fd);
    return answer(bound);
  }
  Listener& listener = listeners_[what.listener];
  if (listener.bound >= 0) close(listener.bound);
  listener.bound = fd;
  listener.outside = bound.outside = Address::local_name(fd);
  answer(bound);
}

void Gateway::listen(Listen const& what) {
  auto const found = listeners_.find(what.listener);
  if (found == listeners_.end()) return answer(Bound{what.listener, EINVAL, {}});
  Listener& listener = found->second;
  listener.inside = what.inside;
  Bound bound{what.listener, 0, listener.outside};
  if (listener.bound >= 0) {
    if (::listen(listener.bound, std::max(what.backlog, 1)) != 0) {
      bound.error = errno;
    } else {
      listener.acceptor =
          std::make_unique<Acceptor>(io_, std::exchange(listener.bound, -1),
                                     [this, id = what.listener](Socket socket) { client_came(id, std::move(socket)); });
      note("listening on " + listener.outside.text());
    }
  }
  answer(bound);
  open_waiting();
}

void Gateway::client_came(uint64_t listener, Socket socket) {
  uint64_t const id = next_connection_++;
  ++figures_.connections;
  RelayedConnection::Owner owner;
  owner.output_came = [this] {
    check_whole();
    bool waits = false;
    for (auto const& [n, connection] : connections_) waits = waits || connection->output_waits();
    if (waits && protected_ && !output_waits_told_) {
      output_waits_told_ = true;
      answer(OutputWaits{});
    }
  };
  owner.ended = [this] { asio::post(io_, [this] { drop_ended(); }); };
  owner.left = [this](uint64_t bytes) {
    figures_.released_bytes += bytes;
    if (!protected_) figures_.unprotected_bytes += bytes;
  };
  auto const connection = std::make_shared<RelayedConnection>(id, listener, std::move(socket), std::move(owner));
  connection->relax(protected_ && !config_.strict);
  connection->let_all_out(!protected_);
  connections_[id] = connection;
  connection->start();
  open_waiting();
}

// Clients whose guest's end is not there yet and that the guest does not know.
void Gateway::open_waiting() {
  if (!primary_) return;
  for (auto const& [id, connection] : connections_) {
    if (connection->has_inside() || connection->ended() || connection->known() || primary_->opening.contains(id))
      continue;
    auto const listener = listeners_.find(connection->listener());
    if (listener == listeners_.end() || listener->second.inside.empty()) continue;
    int const fd = named_socket(listener->second.inside);
    if (fd < 0) {
      note(fmt::format("no socket towards {}: {}", listener->second.inside.text(), std::strerror(-fd)));
      connection->reset();
      continue;
    }
    Socket socket(io_);
    socket.assign(asio::generic::stream_protocol(listener->second.inside.family(), 0), fd);
    connection->set_known(true);
    primary_->opening.emplace(id, std::move(socket));
    answer(Opening{id, connection->listener(), Address::local_name(fd).plain(), connection->client_address(),
                   connection->server_address()});
  }
}

// A guest that does not accept just now is asked again.
void Gateway::open_later() {
  retry_.expires_after(std::chrono::milliseconds(50));
  retry_.async_wait([this](error_code error) {
    if (!error) open_waiting();
  });
}

void Gateway::attach(Attach const& what) {
  auto const found = connections_.find(what.connection);
  bool const gone = found == connections_.end() || found->second->ended() || found->second->client_gone();
  Attached attached{what.connection, gone, {}, {}};
  if (!gone) {
    attaching_[what.source] = what.connection;
    attached.client = found->second->client_address();
    attached.server = found->second->server_address();
  }
  answer(attached);
}

void Gateway::inside_came(Socket socket) {
  auto const expected = attaching_.extract(Address::peer_name(socket.native_handle()).plain());
  auto const found = expected.empty() ? connections_.end() : connections_.find(expected.mapped());
  if (found == connections_.end()) return;  // of an older primary, or a stranger
  found->second->connect_inside(std::move(socket));
}

void Gateway::marks(Marks&& marks) {
  for (ConnectionMark const& mark : marks.open) {
    auto const found = connections_.find(mark.connection);
    if (found != connections_.end()) found->second->demand(mark.written);
  }
  for (uint64_t const id : marks.closed) {
    auto const found = connections_.find(id);
    if (found != connections_.end()) found->second->set_guest_closed();
  }
  output_waits_told_ = false;
  EpochName const name{term_, marks.epoch};
  epochs_[name] = std::move(marks);
  check_whole();
}

void Gateway::check_whole() {
  for (;;) {
    auto const next = epochs_.find({term_, whole_ + 1});
    if (next == epochs_.end()) return;
    for (ConnectionMark const& mark : next->second.open) {
      auto const found = connections_.find(mark.connection);
      if (found == connections_.end() || found->second->client_gone()) continue;
      // One that it closed later with input unread was reset: what it had said last may be lost, as it would be to any
      // client. But an end that the primary's death made says nothing.
      if (found->second->guest_closed() && found->second->inside_ended()) continue;
      if (found->second->output_end() < mark.written) return;
    }
    for (uint64_t const id : next->second.closed) {
      auto const found = connections_.find(id);
      if (found != connections_.end() && found->second->has_inside() && !found->second->inside_ended()) return;
    }
    ++whole_;
    answer(Whole{whole_});
    release();
  }
}

// What a newly safe epoch covers leaves; what came before it is forgotten.
void Gateway::release() {
  uint64_t const number = std::min(whole_, held_);
  EpochName const name{term_, number};
  if (number == 0 || name <= safe_ || !protected_) return;
  for (auto at = epochs_.begin(); at != epochs_.end() && at->first <= name;) {
    for (uint64_t const id : at->second.closed) {
      auto const found = connections_.find(id);
      if (found != connections_.end()) found->second->safe_closed();
    }
    if (at->first == name) {
      for (ConnectionMark const& mark : at->second.open) {
        auto const found = connections_.find(mark.connection);
        if (found != connections_.end()) found->second->safe(mark.read, mark.written, mark.write_shut);
      }
      at->second.closed.clear();  // said once
      break;
    }
    at = epochs_.erase(at);
  }
  safe_ = name;
  drop_ended();
}

void Gateway::drop_ended() {
  std::erase_if(connections_, [this](auto const& entry) {
    if (!entry.second->ended()) return false;
    figures_.diverged += entry.second->diverged();
    figures_.repeated_bytes += entry.second->repeated();
    return true;
  });
}

}  // namespace vmsrs::runtime::gateway
