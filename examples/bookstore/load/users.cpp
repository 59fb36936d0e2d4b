#include "examples/bookstore/load/users.hpp"

#include <latch>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "examples/bookstore/load/client.hpp"

namespace bookstore::load {
namespace {

using clock = std::chrono::steady_clock;
using nlohmann::json;

class User {
 public:
  User(Plan const& plan, Model& model, std::uint64_t id)
      : plan_(plan), model_(model), client_(plan.host, plan.port, id, plan.timeout), random_(plan.seed * 1000003 + id) {
    report_.user = id;
  }

  // All connections are made before the first user begins.
  void connect() { done(client_.get("/healthz")); }

  void run() {
    auto const planned = plan_.faults.find(report_.user);
    bool const faulty = planned != plan_.faults.end();
    // In the middle half of the run, so that others are busy before and after.
    std::uint64_t const fault_at = plan_.requests / 4 + below(plan_.requests / 2 + 1);
    bool const buyer = plan_.buyers.contains(report_.user);
    for (std::uint64_t i = 0; i < plan_.requests && going(); ++i) {
      if (faulty && i == fault_at)
        buy(&planned->second, hot_book());
      else if (buyer && below(2) == 0)
        buy(nullptr, hot_book());
      else
        browse();
    }
    if (faulty && plan_.requests <= fault_at && going()) buy(&planned->second, hot_book());
    if (going()) own_orders();
  }

  void buy(PlannedFault const* fault, std::uint64_t book) {
    Purchase const wish{report_.user,
                        plan_.run + "-" + std::to_string(report_.user) + "-" + std::to_string(++purchases_sent_), book,
                        static_cast<std::int64_t>(1 + below(3))};
    json body = {{"request", wish.request}, {"user", wish.user}, {"book", wish.book}, {"copies", wish.copies}};
    if (fault != nullptr) {
      body["fault"] = {{"kind", name_of(fault->kind)}, {"at", name_of(fault->at)}};
      if (fault->wait_ms != 0) body["fault"]["wait_ms"] = fault->wait_ms;
    }
    model_.sent(wish);
    Reply const reply = client_.post("/buy", body);
    std::optional<bool> committed;
    bool const faulted = judge_purchase(wish, reply, fault != nullptr, &committed);
    if (fault != nullptr) report_.fault = FaultOutcome{report_.user, *fault, reply.status, committed, std::nullopt};
    done(reply);
    if (faulted && going()) {
      auto const found = look_up(wish.request);
      if (fault != nullptr) report_.fault->found = found;
    }
  }

  UserReport take() { return std::move(report_); }

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  // Half of all interest is in one book: purchases of it meet.
  std::uint64_t hot_book() { return below(2) == 0 ? 0 : below(model_.books()); }

  bool going() {
    if (clock::now() >= plan_.deadline) report_.out_of_time = true;
    return !report_.out_of_time && !report_.gave_up;
  }

  void unexpected(std::string const& what, Reply const& reply) {
    model_.malformed(report_.user, what + ": status " + std::to_string(reply.status) + ", " +
                                       reply.body.dump(-1, ' ', false, json::error_handler_t::replace));
  }

  // Counts the reply; after a loss finds out whether there is still a server.
  void done(Reply const& reply) {
    if (!reply.lost()) {
      ++report_.answered;
      report_.latencies.push_back(reply.milliseconds);
      return;
    }
    ++report_.lost;
    auto const until = std::min(clock::now() + plan_.patience, plan_.deadline);
    while (instance_of(client_).empty()) {
      if (clock::now() >= until) {
        report_.gave_up = true;
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  // A read that must come out as 200; false if its answer cannot be judged.
  bool good(std::string const& path, Reply const& reply) {
    done(reply);
    if (reply.lost()) return false;
    if (reply.status == 200) return true;
    if (reply.status >= 500)
      ++report_.disturbed;
    else
      unexpected("GET " + path, reply);
    return false;
  }

  void browse() {
    switch (below(10)) {
      case 0:
        return own_orders();
      case 1:
      case 2:
      case 3: {
        Floor const before = model_.floor();
        std::string const path = "/books/" + std::to_string(hot_book());
        Reply const reply = client_.get(path);
        if (good(path, reply))
          judged(path, reply, [&] {
            Row const row = reply.body;
            if (path != "/books/" + std::to_string(row.book)) return unexpected(path, reply);
            model_.saw_row(report_.user, row, before);
          });
        return;
      }
      default: {
        Floor const before = model_.floor();
        Reply const reply = client_.get("/books");
        if (good("/books", reply))
          judged("/books", reply, [&] {
            std::vector<Row> const rows = reply.body.at("books");
            if (rows.size() != model_.books()) return unexpected("/books", reply);
            for (auto const& row : rows) model_.saw_row(report_.user, row, before);
          });
      }
    }
  }

  void own_orders() {
    std::string const path = "/orders?user=" + std::to_string(report_.user);
    Reply const reply = client_.get(path);
    if (good(path, reply))
      judged(path, reply, [&] {
        model_.saw_orders(report_.user, reply.body.at("orders").get<std::vector<Order>>(), reply.body.at("limit"));
      });
  }

  template <class F>
  void judged(std::string const& what, Reply const& reply, F f) {
    try {
      f();
    } catch (std::exception const& e) {
      unexpected(what + ": " + e.what(), reply);
    }
  }

  // True if the purchase did not come to a regular end.
  bool judge_purchase(Purchase const& wish, Reply const& reply, bool fault, std::optional<bool>* committed) {
    std::uint64_t const user = report_.user;
    if (reply.lost()) {
      model_.unanswered(user, wish.request);
      return true;
    }
    bool irregular = true;
    judged("POST /buy " + wish.request, reply, [&] {
      std::string const error = reply.body.value("error", "");
      if (reply.status == 200) {
        model_.bought(user, wish.request, reply.body.get<Order>());
        ++report_.purchases;
        irregular = false;
      } else if (reply.status == 409 && error == "sold out") {
        model_.sold_out(user, wish.request);
        ++report_.sold_out;
        irregular = false;
      } else if (reply.status == 503) {
        model_.refused(user, wish.request);
        ++report_.disturbed;
      } else if (reply.status == 500 && error == "faulted") {
        if (!fault) ++report_.disturbed;
        json const& told = reply.body.at("committed");
        if (told.is_null()) {
          model_.unanswered(user, wish.request);
        } else {
          *committed = told.get<bool>();
          model_.told(user, wish.request, **committed);
          if (reply.body.contains("order")) model_.looked_up(user, wish.request, reply.body["order"].get<Order>());
        }
      } else {
        model_.unanswered(user, wish.request);
        unexpected("POST /buy " + wish.request, reply);
      }
    });
    return irregular;
  }

  std::optional<bool> look_up(std::string const& request) {
    std::string const path = "/orders/" + request;
    Reply const reply = client_.get(path);
    done(reply);
    std::optional<bool> found;
    if (reply.lost()) return found;
    judged("GET " + path, reply, [&] {
      if (reply.status == 200) {
        model_.looked_up(report_.user, request, reply.body.get<Order>());
        found = true;
      } else if (reply.status == 404) {
        model_.looked_up(report_.user, request, std::nullopt);
        found = false;
      } else if (reply.status >= 500) {
        ++report_.disturbed;
      } else {
        unexpected("GET " + path, reply);
      }
    });
    return found;
  }

  Plan const& plan_;
  Model& model_;
  Client client_;
  std::mt19937_64 random_;
  std::uint64_t purchases_sent_ = 0;
  UserReport report_;
};

}  // namespace

std::vector<UserReport> run_users(Plan const& plan, Model& model) {
  std::vector<UserReport> reports(plan.users);
  std::latch ready(static_cast<std::ptrdiff_t>(plan.users));
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < plan.users; ++i) {
    threads.emplace_back([&, i] {
      User user(plan, model, i + 1);
      user.connect();
      ready.arrive_and_wait();
      user.run();
      reports[i] = user.take();
    });
  }
  for (auto& thread : threads) thread.join();
  return reports;
}

PairOutcome run_pair(Plan const& plan, PlannedFault const& fault, Model& model) {
  PairOutcome outcome;
  outcome.users.resize(2);
  std::thread first([&] {
    User user(plan, model, 1);
    user.connect();
    user.buy(&fault, 0);
    outcome.users[0] = user.take();
  });
  Client watch(plan.host, plan.port, 0, plan.timeout);
  User user(plan, model, 2);
  user.connect();
  auto const until = std::min(clock::now() + plan.timeout, plan.deadline);
  while (!outcome.met && clock::now() < until) {
    Reply const reply = watch.get("/pauses");
    if (reply.lost()) break;
    outcome.met = reply.status == 200 && !reply.body.at("waiting").empty();
  }
  if (outcome.met) user.buy(nullptr, 0);
  first.join();
  outcome.users[1] = user.take();
  Reply const reply = watch.get("/pauses");
  if (reply.status == 200 && !reply.body.at("ended").empty()) {
    json const& last = reply.body["ended"].back();
    outcome.others_begun = last.at("others_begun");
    outcome.others_done = last.at("others_done");
    outcome.waited_ms = last.at("waited_ms");
  }
  return outcome;
}

}  // namespace bookstore::load
