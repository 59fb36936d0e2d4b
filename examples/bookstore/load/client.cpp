#include "examples/bookstore/load/client.hpp"

#include <httplib.h>

namespace bookstore::load {

using nlohmann::json;

Client::Client(std::string const& host, int port, std::uint64_t user, std::chrono::milliseconds timeout)
    : http_(std::make_unique<httplib::Client>(host, port)) {
  http_->set_keep_alive(true);
  http_->set_tcp_nodelay(true);
  http_->set_connection_timeout(timeout);
  http_->set_read_timeout(timeout);
  http_->set_write_timeout(timeout);
  http_->set_default_headers({{"X-User", std::to_string(user)}});
}

Client::~Client() = default;

template <class Call>
Reply Client::timed(Call call) {
  auto const start = std::chrono::steady_clock::now();
  httplib::Result const result = call();
  Reply reply;
  reply.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  if (result) {
    reply.status = result->status;
    reply.body = json::parse(result->body, nullptr, false);
  } else {
    reply.refused = result.error() == httplib::Error::Connection;
    reply.error = httplib::to_string(result.error());
  }
  return reply;
}

Reply Client::get(std::string const& path) {
  return timed([&] { return http_->Get(path); });
}

Reply Client::post(std::string const& path, json const& body) {
  return timed([&] { return http_->Post(path, body.dump(), "application/json"); });
}

namespace {

// A read that failed changed nothing: where faults strike anybody, it is asked again.
Reply get_again(Client& client, std::string const& path) {
  constexpr int kTries = 5;
  Reply reply = client.get(path);
  for (int i = 1; i < kTries && !reply.lost() && reply.status >= 500; ++i) reply = client.get(path);
  return reply;
}

}  // namespace

tl::expected<State, std::string> read_state(Client& client) {
  State state;
  try {
    Reply const books = get_again(client, "/books");
    if (books.status != 200) return tl::unexpected("GET /books: " + (books.lost() ? books.error : books.body.dump()));
    books.body.at("books").get_to(state.rows);
    for (;;) {
      std::string const path = "/ledger?from=" + std::to_string(state.orders.size() + 1);
      Reply const page = get_again(client, path);
      if (page.status != 200)
        return tl::unexpected("GET " + path + ": " + (page.lost() ? page.error : page.body.dump()));
      auto const orders = page.body.at("orders").get<std::vector<Order>>();
      state.orders.insert(state.orders.end(), orders.begin(), orders.end());
      if (orders.empty() || state.orders.size() >= page.body.at("count").get<std::uint64_t>()) return state;
    }
  } catch (std::exception const& e) {
    return tl::unexpected(std::string("the state is unreadable: ") + e.what());
  }
}

std::string instance_of(Client& client) {
  Reply const reply = client.get("/healthz");
  if (reply.status != 200 || !reply.body.is_object()) return "";
  return reply.body.value("instance", "");
}

}  // namespace bookstore::load
