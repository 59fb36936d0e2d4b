// A key-value server that knows nothing of libsrs: what an unmodified server looks like to the monitor.
//
//   kv_server threads|epoll|pool      prints its port; a thread per connection, two threads with an epoll loop each, or
//                                     one thread that serves one connection after the other
//
// One line, one answer: "set K V", "get K", "count" (the values set so far), "quit"; "crash KIND" fails in that way.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#undef NDEBUG
#include <atomic>
#include <cassert>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <thread>

extern "C" long kv_cleaned;
long kv_cleaned = 0;  // by its adapter

namespace {

std::atomic<bool> own_lock{false};  // of a kind that nobody knows
std::mutex lock;
std::shared_mutex shared_lock;
std::map<std::string, std::string> values;
long count = 0;

struct Connection {
  int fd = -1;
  std::string in;
  // epoll: whoever adds the file to a set holds it until epoll_ctl returns. Closed before that, it stays in the set,
  // and its event would come once more; on Linux likewise.
  std::atomic<bool> added{false};
};

#define NOINLINE __attribute__((noinline, noclone))

NOINLINE int recurse(int depth) {
  char volatile frame[200];
  frame[0] = static_cast<char>(depth);
  return recurse(depth + 1) + frame[0];
}

int* volatile nothing = nullptr;
void (*volatile nowhere)() = nullptr;

}  // namespace

// An engine's, which an adapter names.
extern "C" NOINLINE void engine_write() {
  *nothing = 1;
  nowhere();
}

namespace {

NOINLINE void crash(std::string const& kind) {
  if (kind == "engine") engine_write();
  if (kind == "stuck") {
    own_lock = true;
    *nothing = 1;
  }
  if (kind == "read") std::printf("%d", *nothing);
  if (kind == "write") *nothing = 1;
  if (kind == "wild") *reinterpret_cast<int volatile*>(0x8000'0000'0000'1234) = 1;
  if (kind == "divide") {
    int volatile zero = 0;
    std::printf("%d", 100 / zero);
  }
  if (kind == "jump") nowhere();
  if (kind == "recursion") std::printf("%d", recurse(0));
  if (kind == "abort") std::abort();
  if (kind == "assert") __assert_fail("a user is never wrong", "kv_server.cpp", 1, "crash");
  if (kind == "throw") throw std::runtime_error("nobody catches this");
  if (kind == "memcpy") {
    char to[8];
    std::memcpy(to, nothing, sizeof to + static_cast<size_t>(count) * 0);
    std::printf("%s", to);
  }
  if (kind == "locked") {
    std::lock_guard const hold(lock);
    *nothing = 1;
  }
  if (kind == "shared") {
    std::shared_lock const hold(shared_lock);
    std::lock_guard const more(lock);
    *nothing = 1;
  }
  if (kind == "free") {
    char* const block = static_cast<char*>(std::malloc(40));
    std::free(block + 8);  // libc finds out, in its allocator
  }
  if (kind == "stream") std::fputs("x", reinterpret_cast<FILE*>(nothing));
}

std::string answer(std::string const& line) {
  std::string const word = line.substr(0, line.find(' '));
  std::string const rest = line.size() > word.size() ? line.substr(word.size() + 1) : "";
  if (word == "crash") {
    std::string const held(5000, 'x');  // what a request has in hand when it goes wrong
    crash(rest);
    return held.substr(0, 1);
  }
  if (word == "set") {
    std::string const key = rest.substr(0, rest.find(' '));
    std::unique_lock const change(shared_lock);
    std::lock_guard const hold(lock);
    values[key] = rest.substr(key.size());
    ++count;
    return "ok";
  }
  if (word == "cleaned") return std::to_string(__atomic_load_n(&kv_cleaned, __ATOMIC_RELAXED));
  if (word == "get") {
    while (own_lock) std::this_thread::yield();
    std::shared_lock const look(shared_lock);
    std::lock_guard const hold(lock);
    auto const found = values.find(rest);
    return found == values.end() ? "none" : found->second.substr(1);
  }
  if (word == "count") {
    std::lock_guard const hold(lock);
    return std::to_string(count);
  }
  return "?";
}

// False: the connection is over.
bool serve(Connection& c) {
  char bytes[4096];
  ssize_t const n = recv(c.fd, bytes, sizeof bytes, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (n <= 0) return false;
  c.in.append(bytes, static_cast<size_t>(n));
  for (size_t end = c.in.find('\n'); end != std::string::npos; end = c.in.find('\n')) {
    std::string const out = answer(c.in.substr(0, end)) + "\n";
    c.in.erase(0, end + 1);
    if (send(c.fd, out.data(), out.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(out.size())) return false;
  }
  return true;
}

void by_thread(int fd) {
  Connection c;
  c.fd = fd;
  while (serve(c)) {
  }
  close(fd);
}

std::deque<int> waiting;
std::condition_variable some_wait;

void by_pool() {
  for (;;) {
    std::unique_lock hold(lock);
    some_wait.wait(hold, [] { return !waiting.empty(); });
    int const fd = waiting.front();
    waiting.pop_front();
    hold.unlock();
    by_thread(fd);
  }
}

void by_events(int set) {
  for (;;) {
    epoll_event events[16];
    int const n = epoll_wait(set, events, 16, -1);
    for (int i = 0; i < n; ++i) {
      auto* const c = static_cast<Connection*>(events[i].data.ptr);
      if (serve(*c)) continue;
      while (!c->added) std::this_thread::yield();
      close(c->fd);
      delete c;
    }
  }
}

}  // namespace

int main(int, char** argv) {
  bool const events = std::strcmp(argv[1], "epoll") == 0, pool = std::strcmp(argv[1], "pool") == 0;
  int const door = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(door, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(door, 64) != 0) return 2;
  getsockname(door, reinterpret_cast<sockaddr*>(&address), &size);
  std::printf("%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  if (pool) std::thread(by_pool).detach();
  int sets[2] = {-1, -1};
  for (int i = 0; events && i < 2; ++i) {
    sets[i] = epoll_create1(0);
    std::thread(by_events, sets[i]).detach();
  }
  for (int next = 0;; ++next) {
    int const fd = accept4(door, nullptr, nullptr, events ? SOCK_NONBLOCK : 0);
    if (fd < 0) return 3;
    int const on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (pool) {
      std::lock_guard const hold(lock);
      waiting.push_back(fd);
      some_wait.notify_one();
      continue;
    }
    if (!events) {
      std::thread(by_thread, fd).detach();
      continue;
    }
    auto* const c = new Connection;
    c->fd = fd;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = c;
    epoll_ctl(sets[next % 2], EPOLL_CTL_ADD, fd, &event);
    c->added = true;
  }
}
