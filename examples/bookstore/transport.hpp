// HTTP over cpp-httplib with a connection loop of our own: one thread serves one keep-alive
// connection, blocks in one recv between requests (the library would poll a hundred times a second)
// and sends an answer in one send. A handler can also send its answer itself, before it returns.
#pragma once

#include <httplib.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace bookstore {

class HttpServer : public httplib::Server {
 public:
  // `threads`: connections served at once; more wait for one of these to close.
  explicit HttpServer(std::size_t threads);

  // Binds and listens; port 0: any. Returns the port, or what went wrong.
  tl::expected<int, std::string> open(std::string const& host, int port);
  // Serves until request_stop(); false if accepting failed. Ends the process with status 1 if a
  // request does not end within 3 s of the stop.
  bool run();
  // Async-signal-safe.
  void request_stop();

  // Called by a handler: sends this answer to its client now. What the library would send when the
  // handler returns is dropped. False if the client is gone.
  static bool answer_now(int status, std::string_view json);
  // Called by a handler whose answer_now() did not leave after all: its own answer is sent again.
  static void answer_again();
  // Called by a handler: f runs on this thread when the answer has been written.
  static void after_answer(std::function<void()> f);

 private:
  friend class Workers;
  bool process_and_close_socket(socket_t sock) override;
  void wake_connections();

  std::size_t threads_;
  std::atomic<bool> stopping_{false};
  int listening_ = -1;
  std::mutex lock_;
  std::set<socket_t> open_;
};

}  // namespace bookstore
