// A load generator for bench/servers.py: connections that each ask for one thing after the other, at most so many a
// second in all, and every answer is looked at.
//
//   server_load redis-get|redis-set|memcached|mariadb PORT CONNECTIONS PIPELINE SECONDS RATE
//
// RATE 0: as fast as it goes. One thread per 64 connections. Prints {"requests":…, "seconds":…, "wrong":…, "p50_us":…,
// "p99_us":…} (latency of a batch of PIPELINE requests).
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#ifdef WITH_MARIADB
#include <mysql.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kPerThread = 64;
constexpr auto kMostDebt = std::chrono::milliseconds(5);

struct Plan {
  std::string kind;
  uint16_t port = 0;
  unsigned connections = 1, pipeline = 1;
  double seconds = 1, rate = 0;
};

struct Result {
  uint64_t requests = 0, wrong = 0;
  std::vector<float> batch_us;
};

int connect_to(uint16_t port) {
  int const fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int const on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (fd < 0 || connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
    std::perror("server_load: connect");
    std::exit(1);
  }
  return fd;
}

// A text protocol: what is asked, and what must come back.
struct Dialogue {
  std::string ask, answer;
};

Dialogue dialogue_of(std::string const& kind) {
  if (kind == "redis-set") return {"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n", "+OK\r\n"};
  if (kind == "redis-get") return {"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "$3\r\nabc\r\n"};
  if (kind == "memcached") return {"get k\r\n", "VALUE k 0 3\r\nabc\r\nEND\r\n"};
  return {};
}

void prepare(Plan const& plan) {
  Dialogue const first =
      plan.kind == "memcached" ? Dialogue{"set k 0 0 3\r\nabc\r\n", "STORED\r\n"} : dialogue_of("redis-set");
  int const fd = connect_to(plan.port);
  char got[64];
  if (write(fd, first.ask.data(), first.ask.size()) < 0 || read(fd, got, sizeof got) <= 0) std::exit(1);
  close(fd);
}

// One thread's share of the rate: waits until the next batch is due. What is late is caught up with, but for what is
// later than kMostDebt.
class Pace {
 public:
  Pace(Plan const& plan, unsigned share)
      : step_(plan.rate > 0 ? std::chrono::nanoseconds(
                                  static_cast<int64_t>(1e9 * plan.pipeline * plan.connections / (plan.rate * share)))
                            : std::chrono::nanoseconds(0)),
        next_(Clock::now()) {}
  // Time until then; 0: now, and it is taken.
  std::chrono::nanoseconds due() {
    if (step_.count() == 0) return step_;
    auto const now = Clock::now();
    if (now < next_) return next_ - now;
    next_ = std::max(next_ + step_, now - kMostDebt);
    return std::chrono::nanoseconds(0);
  }

 private:
  std::chrono::nanoseconds step_;
  Clock::time_point next_;
};

void talk(Plan const& plan, unsigned share, Clock::time_point until, Result& result) {
  Dialogue const dialogue = dialogue_of(plan.kind);
  std::string ask, answer;
  for (unsigned i = 0; i < plan.pipeline; ++i) ask += dialogue.ask, answer += dialogue.answer;
  struct Link {
    int fd = -1;
    bool busy = false;
    Clock::time_point asked;
    std::string got;
  };
  std::vector<Link> links(share);
  std::vector<pollfd> polled(share);
  for (unsigned i = 0; i < share; ++i) {
    links[i].fd = connect_to(plan.port);
    polled[i] = {links[i].fd, POLLIN, 0};
  }
  Pace pace(plan, share);
  std::vector<char> buffer(1 << 16);
  while (Clock::now() < until) {
    timespec wait{0, 1'000'000};
    for (Link& link : links) {
      if (link.busy) continue;
      if (auto const due = pace.due(); due.count() != 0) {
        wait.tv_nsec = std::min<long>(wait.tv_nsec, due.count());
        break;
      }
      link.asked = Clock::now();
      link.busy = true;
      if (write(link.fd, ask.data(), ask.size()) != static_cast<ssize_t>(ask.size())) ++result.wrong;
    }
    if (ppoll(polled.data(), polled.size(), &wait, nullptr) <= 0) continue;
    for (unsigned i = 0; i < share; ++i) {
      Link& link = links[i];
      if (polled[i].revents == 0) continue;
      ssize_t const n = read(link.fd, buffer.data(), buffer.size());
      if (n <= 0) {
        std::fprintf(stderr, "server_load: the server closed a connection\n");
        std::exit(1);
      }
      link.got.append(buffer.data(), static_cast<size_t>(n));
      if (link.got.size() < answer.size()) continue;
      if (link.got != answer) ++result.wrong;
      link.got.clear();
      link.busy = false;
      result.requests += plan.pipeline;
      result.batch_us.push_back(std::chrono::duration<float, std::micro>(Clock::now() - link.asked).count());
    }
  }
  for (Link const& link : links) close(link.fd);
}

#ifdef WITH_MARIADB
// Point selects by primary key: table bench.t, rows 1 to 1000 with v = id * 7.
void select(Plan const& plan, Clock::time_point until, Result& result) {
  MYSQL* const link = mysql_init(nullptr);
  unsigned const tcp = MYSQL_PROTOCOL_TCP;
  mysql_options(link, MYSQL_OPT_PROTOCOL, &tcp);
  if (mysql_real_connect(link, "127.0.0.1", "root", "", "bench", plan.port, nullptr, 0) == nullptr) {
    std::fprintf(stderr, "server_load: %s\n", mysql_error(link));
    std::exit(1);
  }
  Pace pace(plan, 1);
  uint64_t seed = reinterpret_cast<uint64_t>(link);
  while (Clock::now() < until) {
    if (auto const due = pace.due(); due.count() != 0) {
      std::this_thread::sleep_for(due);
      continue;
    }
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    uint64_t const id = (seed >> 33) % 1000 + 1;
    auto const asked = Clock::now();
    std::string const statement = fmt::format("select v from t where id = {}", id);
    if (mysql_real_query(link, statement.data(), statement.size()) != 0) {
      std::fprintf(stderr, "server_load: %s\n", mysql_error(link));
      std::exit(1);
    }
    MYSQL_RES* const rows = mysql_store_result(link);
    MYSQL_ROW const row = rows != nullptr ? mysql_fetch_row(rows) : nullptr;
    if (row == nullptr || row[0] == nullptr || std::strtoull(row[0], nullptr, 10) != id * 7) ++result.wrong;
    mysql_free_result(rows);
    ++result.requests;
    result.batch_us.push_back(std::chrono::duration<float, std::micro>(Clock::now() - asked).count());
  }
  mysql_close(link);
}
#endif

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr, "server_load redis-get|redis-set|memcached|mariadb PORT CONNECTIONS PIPELINE SECONDS RATE\n");
    return 2;
  }
  Plan const plan{argv[1],
                  static_cast<uint16_t>(std::atoi(argv[2])),
                  static_cast<unsigned>(std::max(1, std::atoi(argv[3]))),
                  static_cast<unsigned>(std::max(1, std::atoi(argv[4]))),
                  std::atof(argv[5]),
                  std::atof(argv[6])};
  bool const sql = plan.kind == "mariadb";
  prctl(PR_SET_TIMERSLACK, 1000);
  if (!sql && dialogue_of(plan.kind).ask.empty()) {
    std::fprintf(stderr, "server_load: unknown load %s\n", argv[1]);
    return 2;
  }
#ifdef WITH_MARIADB
  if (sql) mysql_library_init(0, nullptr, nullptr);
#else
  if (sql) {
    std::fprintf(stderr, "server_load: built without libmariadb-dev\n");
    return 2;
  }
#endif
  if (!sql) prepare(plan);
  auto const begin = Clock::now();
  auto const until = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(plan.seconds));
  unsigned const each = sql ? 1 : kPerThread;
  unsigned const threads = (plan.connections + each - 1) / each;
  std::vector<Result> results(threads);
  {
    std::vector<std::jthread> workers;
    for (unsigned i = 0; i < threads; ++i) {
      unsigned const share = std::min(each, plan.connections - i * each);
      workers.emplace_back([&, i, share] {
#ifdef WITH_MARIADB
        if (sql) return select(plan, until, results[i]);
#endif
        talk(plan, share, until, results[i]);
      });
    }
  }
  double const seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  Result all;
  for (Result& r : results) {
    all.requests += r.requests;
    all.wrong += r.wrong;
    all.batch_us.insert(all.batch_us.end(), r.batch_us.begin(), r.batch_us.end());
  }
  std::sort(all.batch_us.begin(), all.batch_us.end());
  auto const at = [&](double part) {
    return all.batch_us.empty()
               ? 0.0F
               : all.batch_us[static_cast<size_t>(part * static_cast<double>(all.batch_us.size() - 1))];
  };
  fmt::print("{{\"requests\": {}, \"seconds\": {:.4f}, \"wrong\": {}, \"p50_us\": {:.1f}, \"p99_us\": {:.1f}}}\n",
             all.requests, seconds, all.wrong, at(0.5), at(0.99));
  return all.wrong == 0 ? 0 : 1;
}
