// The server and its clients in one process. Usage: server REQUESTS CRASH_EVERY (0: never).
//
// Each client keeps a model of what the shop acknowledged to it; at the end shop and models must agree.
//
// Or the server alone: server serve CONNECTIONS. It names its port, serves so many, and says at the end what the shop
// holds, for clients elsewhere to compare.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tests/faults/wrapped/shop.hpp"

namespace {

constexpr int kClients = 4;
char const* const kItems[] = {"book", "lamp", "chair", "a-thing-with-a-long-name", "cup"};
char const* const kModes[] = {"null", "wild", "divide", "abort"};

void fail(char const* what) {
  std::printf("wrong: %s\n", what);
  std::fflush(stdout);
  _exit(1);
}

void serve(int fd) {
  auto session = std::make_unique<Session>();
  session->fd = fd;
  for (;;) {
    session->reply.clear();
    std::string const name = session->name;
    int const requests = session->requests;
    std::string const buffer(session->buffer, sizeof session->buffer);
    int const result = serve_one(session.get());
    if (result == 0) break;
    if (result < 0) {  // the request failed, and is as if it had never been
      if (session->name != name || session->requests != requests) fail("the session of a failed request");
      if (std::string(session->buffer, sizeof session->buffer) != buffer) fail("the buffer that a system call filled");
      if (!session->reply.empty()) fail("the reply of a failed request");
      session->reply = "SORRY";
    }
    if (send(fd, session->reply.data(), session->reply.size(), MSG_NOSIGNAL) < 0) break;
  }
  close(fd);
}

struct Model {
  long good = 0, bad = 0, revenue = 0;
  std::map<std::string, int> bought;
};

void play(int user, int port, int requests, int crash_every, Model* model) {
  int const fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) fail("connect");
  for (int i = 0; i < requests; ++i) {
    bool const crashes = crash_every != 0 && i % crash_every == user % crash_every;
    std::string const item = kItems[(i * 7 + user) % 5];
    int const count = 1 + i % 4;
    std::string const line = std::to_string(user) + " " + item + " " + std::to_string(count) + " " +
                             (crashes ? kModes[(i / crash_every) % 4] : "plain");
    if (send(fd, line.data(), line.size(), MSG_NOSIGNAL) < 0) fail("send");
    char answer[128] = {};
    if (recv(fd, answer, sizeof answer - 1, 0) <= 0) fail("no answer");
    if (std::strncmp(answer, crashes ? "SORRY" : "OK ", crashes ? 5 : 3) != 0) fail(answer);
    if (crashes) {
      model->bad++;
      continue;
    }
    model->good++;
    model->revenue += count;
    model->bought[item] += count;
  }
  close(fd);
}

// What must hold whoever bought what; the number of orders. With the mutex held.
long judge_structure() {
  for (auto const& [name, item] : shop.items) {
    if (item.buyers.size() > 30) fail("buyers");
    if (!item.last_note.empty() && item.last_note.find(name) == std::string::npos) fail("note");
  }
  long orders = 0;
  for (auto const& [user, list] : shop.by_user) {
    orders += static_cast<long>(list.size());
    for (auto const& order : list) {
      if (order->user != user) fail("an order of somebody else");
      long const held = 1 + std::count(shop.recent.begin(), shop.recent.end(), order);
      if (order.use_count() != held) fail("the count of an order's owners");
    }
  }
  if (static_cast<long>(shop.recent.size()) != std::min(orders, 50L)) fail("recent orders");
  if (!std::is_sorted(shop.notes.begin(), shop.notes.end()) || shop.notes.size() > 40) fail("notes");
  return orders;
}

void judge(std::vector<Model> const& models) {
  if (!shop.mutex.try_lock()) fail("the mutex is still held");
  long good = 0, revenue = 0;
  std::map<std::string, int> bought;
  for (Model const& m : models) {
    good += m.good;
    revenue += m.revenue;
    for (auto const& [item, count] : m.bought) bought[item] += count;
  }
  if (shop.served != good) fail("requests counted");
  if (shop.revenue != revenue) fail("revenue");
  for (auto const& [name, item] : shop.items) {
    if (item.stock != 100000 - bought[name]) fail("stock");
  }
  if (shop.items.size() != bought.size()) fail("items");
  if (judge_structure() != good) fail("orders");
  shop.mutex.unlock();
}

int serve_others(int listener, int port, int connections) {
  std::printf("port %d\n", port);
  std::fflush(stdout);
  std::vector<std::thread> workers;
  for (int i = 0; i < connections; ++i) workers.emplace_back(serve, accept(listener, nullptr, nullptr));
  for (auto& t : workers) t.join();
  if (!shop.mutex.try_lock()) fail("the mutex is still held");
  long const orders = judge_structure();
  std::printf("served %ld orders %ld revenue %ld\n", shop.served.load(), orders, shop.revenue);
  for (auto const& [name, item] : shop.items) std::printf("item %s %d\n", name.c_str(), item.stock);
  for (auto const& [user, list] : shop.by_user) std::printf("user %d %zu\n", user, list.size());
  std::printf("well\n");
  shop.mutex.unlock();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int const requests = argc > 1 ? std::atoi(argv[1]) : 100;
  int const crash_every = argc > 2 ? std::atoi(argv[2]) : 0;
  int const listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof at;
  if (bind(listener, reinterpret_cast<sockaddr*>(&at), size) != 0 || listen(listener, kClients) != 0) fail("listen");
  getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size);
  if (argc > 2 && std::strcmp(argv[1], "serve") == 0)
    return serve_others(listener, ntohs(at.sin_port), std::atoi(argv[2]));

  std::vector<Model> models(kClients);
  std::vector<std::thread> clients, workers;
  for (int user = 0; user < kClients; ++user) {
    clients.emplace_back(play, user, ntohs(at.sin_port), requests, crash_every, &models[static_cast<size_t>(user)]);
  }
  for (int i = 0; i < kClients; ++i) workers.emplace_back(serve, accept(listener, nullptr, nullptr));
  for (auto& t : clients) t.join();
  for (auto& t : workers) t.join();
  judge(models);
  long good = 0, bad = 0;
  for (Model const& m : models) {
    good += m.good;
    bad += m.bad;
  }
  std::printf("%ld served, %ld failed\nwell\n", good, bad);
}
