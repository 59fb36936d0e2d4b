#include "runtime/replicate/gateway_link.hpp"

#include <fmt/format.h>

#include <boost/asio/post.hpp>
#include <csignal>

#include "runtime/replicate/named_socket.hpp"
#include "runtime/replicate/quiet_thread.hpp"

namespace asio = boost::asio;

namespace vmsrs::runtime::replicate {
namespace {
constexpr auto kAnswerTime = std::chrono::seconds(5);
}

vmm::Result<std::unique_ptr<GatewayLink>> GatewayLink::connect(Address const& gateway, Key const& key,
                                                               Hello const& hello, Handlers handlers) {
  std::unique_ptr<GatewayLink> self(new GatewayLink(std::move(handlers), hello.term));
  GatewayLink* const link = self.get();
  link->channel_ = Channel::connect(link->io_, gateway, key, Purpose::kControl,
                                    {[link, hello] { link->channel_->send(hello); },
                                     [link](Message&& message) { link->said(std::move(message)); },
                                     [link](std::string const& why) { link->gone(false, why); },
                                     {}});
  auto const answer = link->ask(std::nullopt, [](Message const& m) { return std::holds_alternative<Welcome>(m); });
  if (!answer) {
    std::lock_guard const guard(link->mutex_);
    std::string const why = link->why_lost_.empty() ? "no answer" : link->why_lost_;
    link->handlers_.lost = nullptr;
    return vmm::fail(vmm::Errc::kHostCall, fmt::format("the gateway at {}: {}", gateway.text(), why));
  }
  link->welcome_ = std::get<Welcome>(*answer);
  return self;
}

GatewayLink::~GatewayLink() {
  handlers_ = {};
  asio::post(io_, [this] { channel_->shut(); });
  work_.reset();
  if (thread_.joinable()) {
    thread_.join();
  } else {
    io_.poll();
  }
}

void GatewayLink::start_thread() {
  thread_ = quiet_thread([this] { io_.run(); });
}

void GatewayLink::gone(bool fenced, std::string const& why) {
  {
    std::lock_guard const guard(mutex_);
    if (lost_) return;
    lost_ = true;
    fenced_ = fenced;
    why_lost_ = why;
    changed_.notify_all();
  }
  if (handlers_.lost) handlers_.lost(fenced, why);
}

void GatewayLink::said(Message&& message) {
  if (auto const* const opening = std::get_if<Opening>(&message)) {
    if (handlers_.opening) handlers_.opening(*opening);
    return channel_->send(Opened{opening->connection});
  }
  if (auto const* const whole = std::get_if<Whole>(&message)) {
    if (handlers_.whole) handlers_.whole(whole->epoch);
    return;
  }
  if (std::holds_alternative<OutputWaits>(message)) {
    if (handlers_.output_waits) handlers_.output_waits();
    return;
  }
  if (auto const* const fenced = std::get_if<Fenced>(&message)) {
    std::string const why = fmt::format("term {} is over: {}", term_, fenced->why);
    channel_->shut();
    return gone(true, why);
  }
  std::lock_guard const guard(mutex_);
  for (auto at = waiters_.begin(); at != waiters_.end(); ++at) {
    if (!(*at)->wants(message)) continue;
    (*at)->got = std::move(message);
    waiters_.erase(at);
    changed_.notify_all();
    return;
  }
}

std::optional<Message> GatewayLink::ask(std::optional<Message> question, std::function<bool(Message const&)> wants) {
  Waiter waiter{std::move(wants), std::nullopt};
  auto const until = std::chrono::steady_clock::now() + kAnswerTime;
  std::unique_lock lock(mutex_);
  waiters_.push_back(&waiter);
  if (question) asio::post(io_, [this, question = std::move(*question)] { channel_->send(question); });
  auto const done = [&] { return waiter.got.has_value() || lost_; };
  if (thread_.joinable()) {
    changed_.wait_until(lock, until, done);
  } else {
    while (!done() && std::chrono::steady_clock::now() < until) {
      lock.unlock();
      io_.run_one_until(until);
      lock.lock();
    }
  }
  waiters_.remove(&waiter);
  return std::move(waiter.got);
}

void GatewayLink::send(Message message) {
  asio::post(io_, [this, message = std::move(message)] { channel_->send(message); });
  if (!thread_.joinable()) io_.poll();
}

void GatewayLink::flush() {
  if (!thread_.joinable()) return;
  std::mutex mutex;
  std::condition_variable done;
  bool out = false;
  auto const look = [&](auto const& self) -> void {
    if (channel_->unsent() != 0 && channel_->is_open()) {
      asio::post(io_, [&self] { self(self); });
      return;
    }
    std::lock_guard const guard(mutex);
    out = true;
    done.notify_one();
  };
  asio::post(io_, [&look] { look(look); });
  std::unique_lock lock(mutex);
  done.wait(lock, [&] { return out; });
}

int GatewayLink::bind(Bind const& what, Address& outside) {
  auto const answer = ask(what, [id = what.listener](Message const& m) {
    auto const* const bound = std::get_if<Bound>(&m);
    return bound != nullptr && bound->listener == id;
  });
  if (!answer) return ENETDOWN;
  outside = std::get<Bound>(*answer).outside;
  return std::get<Bound>(*answer).error;
}

int GatewayLink::listen(Listen const& what) {
  auto const answer = ask(what, [id = what.listener](Message const& m) {
    auto const* const bound = std::get_if<Bound>(&m);
    return bound != nullptr && bound->listener == id;
  });
  return answer ? std::get<Bound>(*answer).error : ENETDOWN;
}

int GatewayLink::attach(uint64_t connection, uint64_t read, uint64_t written, Attached& told) {
  Address const& to = welcome_.data;
  int const fd = named_socket(to);
  if (fd < 0) return fd;
  Attach const what{connection, read, written, Address::local_name(fd).plain()};
  auto const answer = ask(what, [connection](Message const& m) {
    auto const* const attached = std::get_if<Attached>(&m);
    return attached != nullptr && attached->connection == connection;
  });
  if (answer) told = std::get<Attached>(*answer);
  if (!answer || told.gone || connect_blocking(fd, to) != 0) {
    close(fd);
    return -ECONNRESET;
  }
  return fd;
}

bool GatewayLink::set_protected(bool on) {
  auto const answer = ask(Protected{on}, [on](Message const& m) {
    auto const* const echo = std::get_if<Protected>(&m);
    return echo != nullptr && echo->on == on;
  });
  return answer.has_value();
}

}  // namespace vmsrs::runtime::replicate
