// Clients of the register, and the judge of what they were answered.
//
// Every write gets a version of its own, so the order of all writes is known, and the history is linearizable exactly
// if real time agrees with it: an operation that begins after another one ended has no older version (a write: a newer
// one), and every answer shows the value that the write of its version wrote. A write whose connection was lost may
// have happened or not.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace failover {

struct Operation {
  bool write = false;
  std::string value;           // written, or read
  uint64_t version = 0;        // 0: no answer
  int64_t begin = 0, end = 0;  // ns
};

inline int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch().count();
}

class Clients {
 public:
  Clients(uint16_t port, int count, std::chrono::milliseconds patience) : port_(port), patience_(patience) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this, i] { run(i); });
  }
  ~Clients() { stop(); }
  void stop() {
    stop_ = true;
    for (auto& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  [[nodiscard]] uint64_t answered() const { return answered_; }
  [[nodiscard]] uint64_t lost() const { return lost_; }
  [[nodiscard]] int64_t longest_wait_ns() const { return longest_; }

  // What is wrong with the history; empty: nothing.
  std::string judge() {
    stop();
    std::map<uint64_t, Operation const*> writes;
    for (Operation const& op : history_) {
      if (op.value.starts_with("answered")) return "a request was " + op.value;
      if (!op.write || op.version == 0) continue;
      if (!writes.emplace(op.version, &op).second) return "version " + std::to_string(op.version) + " was given twice";
    }
    std::map<std::string, uint64_t> unanswered;
    for (Operation const& op : history_) {
      if (op.write && op.version == 0) unanswered[op.value] = 0;
    }
    for (Operation const& op : history_) {
      if (op.version == 0 || op.write) continue;
      auto const write = writes.find(op.version);
      if (write != writes.end() && write->second->value != op.value) return "a read shows another write's value";
      if (write == writes.end() && op.version != 0 && !unanswered.contains(op.value)) {
        return "a read shows version " + std::to_string(op.version) + " \"" + op.value + "\", which nobody wrote";
      }
    }
    // By the time of their ends: whoever begins later must not be older than the newest that ended before.
    std::vector<Operation const*> by_begin, by_end;
    for (Operation const& op : history_) {
      if (op.version == 0 && op.write) continue;
      by_begin.push_back(&op);
      by_end.push_back(&op);
    }
    std::sort(by_begin.begin(), by_begin.end(), [](auto* a, auto* b) { return a->begin < b->begin; });
    std::sort(by_end.begin(), by_end.end(), [](auto* a, auto* b) { return a->end < b->end; });
    uint64_t newest = 0;
    size_t ended = 0;
    for (Operation const* op : by_begin) {
      for (; ended < by_end.size() && by_end[ended]->end < op->begin; ++ended) {
        newest = std::max(newest, by_end[ended]->version);
      }
      if (op->write ? op->version <= newest : op->version < newest) {
        return "version " + std::to_string(op->version) + " was answered after version " + std::to_string(newest);
      }
    }
    return "";
  }

 private:
  void run(int number) {
    uint64_t next = 0;
    while (!stop_) {
      int const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(port_);
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      timeval const limit{patience_.count() / 1000, (patience_.count() % 1000) * 1000};
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
      int const on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
        close(fd);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        continue;
      }
      while (!stop_ && one(fd, number, next++)) {
      }
      close(fd);
    }
  }
  bool one(int fd, int number, uint64_t n) {
    Operation op;
    op.write = n % 3 != 2;
    op.value = std::to_string(number) + "-" + std::to_string(n);
    std::string const question = op.write ? "W " + op.value + "\n" : "R\n";
    op.begin = now_ns();
    std::string answer;
    bool good = send(fd, question.data(), question.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(question.size());
    while (good && answer.find('\n') == std::string::npos) {
      char buffer[256];
      ssize_t const got = recv(fd, buffer, sizeof buffer, 0);
      good = got > 0;
      if (good) answer.append(buffer, static_cast<size_t>(got));
    }
    op.end = now_ns();
    if (good) {
      op.version = std::stoull(answer);
      std::string const value = answer.substr(answer.find(' ') + 1, answer.find('\n') - answer.find(' ') - 1);
      // What a write is answered is its own value, and nothing follows it.
      if (op.write && value != op.value) op.value = "answered as " + value;
      if (!op.write) op.value = value;
      if (answer.back() != '\n' || answer.find('\n') + 1 != answer.size()) op.value = "answered twice";
      ++answered_;
    } else {
      ++lost_;
    }
    std::lock_guard const guard(mutex_);
    longest_ = std::max<int64_t>(longest_, op.end - op.begin);
    if (good || op.write) history_.push_back(std::move(op));
    return good;
  }

  uint16_t port_;
  std::chrono::milliseconds patience_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> answered_{0}, lost_{0};
  std::atomic<int64_t> longest_{0};
  std::mutex mutex_;
  std::vector<Operation> history_;
  std::vector<std::thread> threads_;
};

}  // namespace failover
