// Purchases that crash, at a steady rate, against a bookstore that others use; and how many requests it has answered in
// the meantime.
//
// usage: fault_load PORT RATE SECONDS      RATE: crashes a second, 0 for none
//
// Prints JSON: crashes sent, answered as they must be (500, "faulted", not committed) and otherwise; their answer's
// latency; the server's count of requests every 100 ms; when each crash was sent.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

class Connection {
 public:
  explicit Connection(int port) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int const one = 1;
    timeval const patience{5, 0};
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
      std::perror("fault_load: connect");
      std::exit(2);
    }
  }
  ~Connection() { close(fd_); }
  Connection(Connection const&) = delete;
  Connection& operator=(Connection const&) = delete;

  // The whole answer, head and body; empty if the connection ended or nothing came.
  std::string ask(std::string const& request) {
    if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) return "";
    std::string answer;
    char part[8192];
    for (;;) {
      size_t const head = answer.find("\r\n\r\n");
      if (head != std::string::npos) {
        size_t const length = answer.find("Content-Length: ");
        size_t const body = length < head ? std::strtoul(answer.c_str() + length + 16, nullptr, 10) : 0;
        if (answer.size() >= head + 4 + body) return answer;
      }
      ssize_t const got = recv(fd_, part, sizeof part, 0);
      if (got <= 0) return "";
      answer.append(part, static_cast<size_t>(got));
    }
  }

 private:
  int fd_;
};

constexpr char const* kKinds[] = {"store", "load", "divide", "abort", "illegal", "call", "noncanonical", "reported"};
constexpr char const* kPoints[] = {"mid", "between", "torn"};

std::string purchase(unsigned number) {
  std::string const body = fmt::format(
      R"({{"request":"crash-{}","user":{},"book":{},"copies":1,"fault":{{"kind":"{}","at":"{}"}}}})", number,
      100000 + number, number % 10, kKinds[number % std::size(kKinds)], kPoints[number % std::size(kPoints)]);
  return fmt::format("POST /buy HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                     body.size(), body);
}

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: fault_load PORT RATE SECONDS\n");
    return 2;
  }
  int const port = std::atoi(argv[1]);
  double const rate = std::atof(argv[2]), seconds = std::atof(argv[3]);
  if (port <= 0 || port > 65535 || rate < 0 || rate > 10000 || !(seconds > 0)) {
    std::fprintf(stderr, "fault_load: PORT 1 to 65535, RATE 0 to 10000, SECONDS more than 0\n");
    return 2;
  }
  auto const start = Clock::now();
  std::string series;
  std::thread counter([&] {
    Connection stats(port);
    for (unsigned tick = 0; since(start) < seconds; ++tick) {
      std::string const answer = stats.ask("GET /stats HTTP/1.1\r\nHost: x\r\n\r\n");
      size_t const at = answer.find("\"requests\":");
      if (at == std::string::npos) break;
      series += fmt::format("{}[{:.4f},{}]", series.empty() ? "" : ",", since(start),
                            std::strtoull(answer.c_str() + at + 11, nullptr, 10));
      std::this_thread::sleep_until(start + std::chrono::milliseconds(100) * (tick + 1));
    }
  });
  unsigned sent = 0, contained = 0;
  std::string wrong, times;
  std::vector<double> latency;
  if (rate > 0) {
    Connection users(port);
    for (; since(start) < seconds; ++sent) {
      std::this_thread::sleep_until(
          start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>((sent + 1) / rate)));
      auto const asked = Clock::now();
      times += fmt::format("{}{:.4f}", sent == 0 ? "" : ",", since(start));
      std::string const answer = users.ask(purchase(sent));
      latency.push_back(since(asked) * 1e6);
      bool const good = answer.find(" 500 ") != std::string::npos && answer.find("\"faulted\"") != std::string::npos &&
                        answer.find("\"committed\":false") != std::string::npos;
      contained += good ? 1 : 0;
      if (!good && wrong.empty()) wrong = answer.empty() ? "no answer" : answer.substr(0, answer.find("\r\n"));
      if (answer.empty()) break;
    }
  }
  counter.join();
  std::sort(latency.begin(), latency.end());
  auto const quantile = [&](double q) {
    return latency.empty() ? 0.0 : latency[std::min(latency.size() - 1, static_cast<size_t>(q * latency.size()))];
  };
  fmt::print(R"({{"crashes":{},"contained":{},"first_otherwise":"{}","p50_us":{:.0f},"p99_us":{:.0f},)", sent,
             contained, wrong, quantile(0.5), quantile(0.99));
  fmt::print("\"crash_times\":[{}],\"requests\":[{}]}}\n", times, series);
}
