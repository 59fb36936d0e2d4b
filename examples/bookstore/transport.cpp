#include "examples/bookstore/transport.hpp"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace bookstore {
namespace {

constexpr int kBacklog = 512;
constexpr int kRequestSeconds = 5;  // for the rest of a request once it began, and for a slow reader

// The library's view of a connection: reads are served from one buffer, writes are gathered.
class Connection : public httplib::Stream {
 public:
  explicit Connection(socket_t sock) : sock_(sock) {}

  // Blocks until the next request begins; false when the client is gone or the server stops.
  bool next(std::atomic<bool> const& stopping) {
    muted_ = false;
    after_ = nullptr;
    while (at_ == end_) {
      if (stopping) return false;
      if (fill() > 0) break;
      if (errno != EAGAIN) return false;
    }
    return true;
  }

  bool flush() {
    std::size_t sent = 0;
    while (sent < out_.size()) {
      ssize_t const n = ::send(sock_, out_.data() + sent, out_.size() - sent, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      sent += static_cast<std::size_t>(n);
    }
    bool const whole = sent == out_.size();
    out_.clear();
    return whole;
  }

  bool answer(int status, std::string_view json) {
    out_ = "HTTP/1.1 " + std::to_string(status) + (status == 200 ? " OK" : " Error") +
           "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(json.size()) + "\r\n\r\n";
    out_ += json;
    muted_ = true;
    return flush();
  }
  void unmute() { muted_ = false; }

  void set_after(std::function<void()> f) { after_ = std::move(f); }
  void run_after() {
    if (auto const f = std::exchange(after_, nullptr)) f();
  }

  bool is_readable() const override { return true; }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, size_t size) override {
    if (at_ == end_ && fill() <= 0) return -1;
    std::size_t const n = std::min(size, end_ - at_);
    std::memcpy(to, in_ + at_, n);
    at_ += n;
    return static_cast<ssize_t>(n);
  }
  ssize_t write(char const* from, size_t size) override {
    if (!muted_) out_.append(from, size);
    return static_cast<ssize_t>(size);
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return sock_; }

 private:
  // Bytes read; 0 or less with errno: none (EAGAIN: none yet).
  ssize_t fill() {
    ssize_t n;
    do {
      n = ::recv(sock_, in_, sizeof in_, 0);
    } while (n < 0 && errno == EINTR);
    if (n == 0) errno = ECONNRESET;
    at_ = 0;
    end_ = n > 0 ? static_cast<std::size_t>(n) : 0;
    return n;
  }

  socket_t sock_;
  std::size_t at_ = 0, end_ = 0;
  bool muted_ = false;
  std::string out_;
  std::function<void()> after_;
  char in_[8192];
};

thread_local Connection* t_connection = nullptr;

}  // namespace

// Threads come as connections do, up to a limit, and stay.
class Workers : public httplib::TaskQueue {
 public:
  Workers(HttpServer& server, std::size_t limit) : server_(server), limit_(limit) {}

  void enqueue(std::function<void()> work) override {
    std::lock_guard const hold(lock_);
    queue_.push_back(std::move(work));
    if (idle_ < queue_.size() && threads_.size() < limit_) {
      threads_.emplace_back([this] { loop(); });
      ++running_;
    }
    wake_.notify_one();
  }

  void shutdown() override {
    std::unique_lock hold(lock_);
    stop_ = true;
    wake_.notify_all();
    hold.unlock();
    server_.wake_connections();
    hold.lock();
    bool const ended = ended_.wait_for(hold, std::chrono::seconds(3), [this] { return running_ == 0; });
    if (!ended) {
      // A thread that never comes back cannot be joined, nor can what it uses be destroyed.
      std::fprintf(stderr, "bookstore: %zu connections did not end within 3 s of the stop\n", running_ - idle_);
      std::_Exit(1);
    }
    hold.unlock();
    for (auto& thread : threads_) thread.join();
  }

 private:
  void loop() {
    std::unique_lock hold(lock_);
    for (;;) {
      ++idle_;
      wake_.wait(hold, [this] { return stop_ || !queue_.empty(); });
      --idle_;
      if (queue_.empty()) break;
      auto const work = std::move(queue_.front());
      queue_.pop_front();
      hold.unlock();
      work();
      hold.lock();
    }
    --running_;
    ended_.notify_all();
  }

  HttpServer& server_;
  std::size_t limit_;
  std::mutex lock_;
  std::condition_variable wake_, ended_;
  std::deque<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0, running_ = 0;
  bool stop_ = false;
};

HttpServer::HttpServer(std::size_t threads) : threads_(threads) {
  new_task_queue = [this] { return new Workers(*this, threads_); };
  set_payload_max_length(std::size_t{64} << 10);
  // What the answers promise: we close no idle connection.
  set_keep_alive_max_count(1'000'000'000);
  set_keep_alive_timeout(86400);
  // The library's default is SO_REUSEPORT: two servers would share a port without a word.
  set_socket_options([this](socket_t sock) {
    int const yes = 1;
    ::setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    listening_ = sock;
  });
}

tl::expected<int, std::string> HttpServer::open(std::string const& host, int port) {
  errno = 0;
  int const bound = port == 0 ? bind_to_any_port(host) : (bind_to_port(host, port) ? port : -1);
  if (bound <= 0) {
    int const error = errno;
    std::string what = "cannot listen on " + host + ":" + std::to_string(port) + ": ";
    if (error == EADDRINUSE) return tl::unexpected(what + "the port is in use");
    return tl::unexpected(what + (error != 0 ? std::strerror(error) : "no such host address"));
  }
  // The library's backlog of 5 makes the sixth client of a burst wait for a retransmission.
  if (::listen(svr_sock_, kBacklog) != 0) return tl::unexpected(std::string("listen: ") + std::strerror(errno));
  listening_ = svr_sock_;
  return bound;
}

bool HttpServer::run() {
  bool const good = listen_after_bind();
  return good || stopping_;
}

void HttpServer::request_stop() {
  stopping_ = true;
  ::shutdown(listening_, SHUT_RDWR);
}

void HttpServer::wake_connections() {
  std::lock_guard const hold(lock_);
  for (socket_t const sock : open_) ::shutdown(sock, SHUT_RD);
}

bool HttpServer::process_and_close_socket(socket_t sock) {
  int const yes = 1;
  timeval const limit{kRequestSeconds, 0};
  ::setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  ::setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  {
    std::lock_guard const hold(lock_);
    open_.insert(sock);
  }
  Connection connection(sock);
  t_connection = &connection;
  bool good = true;
  bool closed = false;
  while (good && !closed && connection.next(stopping_)) {
    good = process_request(connection, stopping_, closed, nullptr);
    good = connection.flush() && good;
    connection.run_after();
  }
  t_connection = nullptr;
  {
    std::lock_guard const hold(lock_);
    open_.erase(sock);
  }
  ::shutdown(sock, SHUT_RDWR);
  ::close(sock);
  return good;
}

bool HttpServer::answer_now(int status, std::string_view json) {
  return t_connection->answer(status, json);
}

void HttpServer::answer_again() {
  t_connection->unmute();
}

void HttpServer::after_answer(std::function<void()> f) {
  t_connection->set_after(std::move(f));
}

}  // namespace bookstore
