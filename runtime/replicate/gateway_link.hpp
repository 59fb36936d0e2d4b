// The primary's side of the control channel to the gateway.
//
// connect() does without a thread: until start_thread() the io_context runs inside the calls that wait for an answer.
// That is how a backup, which may have no threads before the guest is restored, gets its connections attached.
// Afterwards every method but connect() may be called from any thread, and the handlers run on the link's own.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "runtime/replicate/channel.hpp"

namespace vmsrs::runtime::replicate {

class GatewayLink {
 public:
  struct Handlers {
    // A client's connection is about to come from `source`. Answered with Opened as soon as it returns.
    std::function<void(Opening const&)> opening;
    std::function<void(uint64_t epoch)> whole;
    std::function<void()> output_waits;
    // The gateway is gone, or says that this term is over (fenced): nothing that this process does may have an effect.
    std::function<void(bool fenced, std::string const& why)> lost;
  };
  // Fails where the gateway cannot be reached, does not know the key, or refuses the term.
  static vmm::Result<std::unique_ptr<GatewayLink>> connect(Address const& gateway, Key const& key, Hello const& hello,
                                                           Handlers handlers);
  ~GatewayLink();

  [[nodiscard]] Welcome const& welcome() const { return welcome_; }
  void start_thread();
  [[nodiscard]] boost::asio::io_context& io() { return io_; }
  [[nodiscard]] Term term() const { return term_; }

  // Each waits for its answer: an errno, or 0.
  int bind(Bind const& what, Address& outside);
  int listen(Listen const& what);
  // A socket connected to the gateway in the connection's place; negative: it is gone.
  int attach(uint64_t connection, uint64_t read, uint64_t written, Attached& told);
  // Once it returns true no output leaves that no epoch covers.
  bool set_protected(bool on);
  void send(Message message);
  // Waits until what was sent has gone out.
  void flush();

 private:
  GatewayLink(Handlers handlers, Term term) : handlers_(std::move(handlers)), term_(term) {}
  struct Waiter {
    std::function<bool(Message const&)> wants;
    std::optional<Message> got;
  };
  // Without a question it only waits.
  std::optional<Message> ask(std::optional<Message> question, std::function<bool(Message const&)> wants);
  void said(Message&& message);
  void gone(bool fenced, std::string const& why);

  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{io_.get_executor()};
  Handlers handlers_;
  Term term_;
  std::shared_ptr<Channel> channel_;
  Welcome welcome_;
  std::thread thread_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Waiter*> waiters_;
  bool lost_ = false, fenced_ = false;
  std::string why_lost_;
};

}  // namespace vmsrs::runtime::replicate
