#include "examples/bookstore/service.hpp"

#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "examples/bookstore/page.hpp"

namespace bookstore {
namespace {

using nlohmann::json;

constexpr std::size_t kOrdersShown = 50;
constexpr std::size_t kLedgerPage = 1000;

void say(httplib::Response& res, int status, json const& body) {
  res.status = status;
  res.set_content(body.dump(-1, ' ', false, json::error_handler_t::replace), "application/json");
}

void refuse(httplib::Response& res, int status, std::string const& why) {
  say(res, status, {{"error", why}});
}

tl::unexpected<std::string> no(std::string why) {
  return tl::unexpected<std::string>(std::move(why));
}

std::optional<std::uint64_t> number_in(std::string const& text) {
  std::uint64_t n = 0;
  auto const [stop, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || error != std::errc() || stop != text.data() + text.size()) return {};
  return n;
}

// The parameter, `fallback` if it is absent, nothing if it is no number.
std::optional<std::uint64_t> number_param(httplib::Request const& req, char const* name,
                                          std::optional<std::uint64_t> fallback) {
  return req.has_param(name) ? number_in(req.get_param_value(name)) : fallback;
}

std::string joined(std::vector<std::string_view> const& names) {
  std::string list;
  for (auto const name : names) (list += list.empty() ? "" : ", ") += name;
  return list;
}

tl::expected<Wish, std::string> wish_in(json const& body, std::size_t books) {
  auto const whole = [&body](char const* key) {
    return body.contains(key) && body[key].is_number_integer() && body[key] >= 0;
  };
  if (!body.is_object()) return no("the body is not a JSON object");
  if (!body.contains("request") || !body["request"].is_string())
    return no("\"request\" must be a string: an id of your own for this purchase");
  for (char const* key : {"user", "book", "copies"})
    if (!whole(key)) return no("\"" + std::string(key) + "\" must be a whole number");
  Wish wish{body["request"], body["user"], body["book"], 0};
  if (wish.request.empty() || wish.request.size() > kMaxRequestId)
    return no("\"request\" must have 1 to " + std::to_string(kMaxRequestId) + " bytes");
  if (wish.request.find('\0') != std::string::npos) return no("\"request\" must not contain a zero byte");
  if (wish.book >= books) return no("no such book");
  std::uint64_t const copies = body["copies"];
  if (copies < 1 || copies > 1000) return no("\"copies\" must be 1 to 1000");
  wish.copies = static_cast<std::int64_t>(copies);
  return wish;
}

json last_fault() {
  srs_fault_info info;
  if (srs_last_fault(&info) == 0) return nullptr;
  info.what[sizeof info.what - 1] = '\0';
  return {{"kind", info.kind}, {"signal", info.signal}, {"what", info.what}};
}

// Outside the scope: the order stands whatever becomes of this.
bool write_journal(int fd, Order const& order) {
  if (fd < 0) return true;
  std::string const line = json(order).dump() + '\n';
  return write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) && fdatasync(fd) == 0;
}

}  // namespace

Service::Service(ServiceOptions const& options, HttpServer& http)
    : options_(options),
      catalogue_(options.books, options.stock, options.threads),
      pauses_(options.books),
      answered_(srs::create<srs::shared<std::uint64_t>>()) {
  std::random_device random;
  char instance[17];
  std::snprintf(instance, sizeof instance, "%08x%08x", random(), random());
  instance_ = instance;

  http.Get("/", [](Request const&, Response& res) {
    res.set_content(kPage.data(), kPage.size(), "text/html; charset=utf-8");
  });
  http.Get("/books", [this](Request const& q, Response& a) { get_books(q, a); });
  http.Get(R"(/books/([^/]+))", [this](Request const& q, Response& a) { get_book(q, a); });
  http.Get("/orders", [this](Request const& q, Response& a) { get_orders(q, a); });
  http.Get(R"(/orders/([^/]+))", [this](Request const& q, Response& a) { get_order(q, a); });
  http.Get("/ledger", [this](Request const& q, Response& a) { get_ledger(q, a); });
  http.Get("/stats", [this](Request const&, Response& a) { get_stats(a); });
  http.Get("/pauses", [this](Request const&, Response& a) { get_pauses(a); });
  http.Get("/healthz", [this](Request const&, Response& a) {
    say(a, 200, {{"ok", true}, {"instance", instance_}, {"srs_active", srs_active()}});
  });
  http.Post("/buy", [this](Request const& q, Response& a) { post_buy(q, a); });
  http.set_error_handler([](Request const& q, Response& a) {
    if (a.body.empty()) refuse(a, a.status, q.method + " " + q.path + ": no such thing here");
  });
  http.set_exception_handler([](Request const&, Response& a, std::exception_ptr const& ep) {
    try {
      std::rethrow_exception(ep);
    } catch (std::exception const& e) {
      refuse(a, 500, e.what());
    } catch (...) {
      refuse(a, 500, "unknown exception");
    }
  });
}

tl::expected<Fault, std::string> Service::fault_of(Request const& req, json const* body) const {
  std::string kind, at = "before";
  std::uint64_t wait_ms = 0;
  if (body != nullptr && body->contains("fault")) {
    json const& f = (*body)["fault"];
    if (!f.is_object() || !f.contains("kind") || !f["kind"].is_string() || (f.contains("at") && !f["at"].is_string()) ||
        (f.contains("wait_ms") && !f["wait_ms"].is_number_unsigned()))
      return no(R"("fault" must be {"kind": "...", "at": "...", "wait_ms": number}; the last two optional)");
    kind = f["kind"];
    at = f.value("at", at);
    wait_ms = f.value("wait_ms", std::uint64_t{0});
  } else if (req.has_header("X-Fault")) {
    std::string const spec = req.get_header_value("X-Fault");
    auto const colon = spec.find(':');
    kind = spec.substr(0, colon);
    if (colon != std::string::npos) at = spec.substr(colon + 1);
  } else {
    return Fault{};
  }
  if (!options_.inject) return no("faults are off: start the server with --inject");
  auto const k = kind_named(kind);
  if (!k) return no("fault kind \"" + kind + "\" is none of " + joined(kind_names()));
  auto const p = point_named(at);
  if (!p) return no("fault point \"" + at + "\" is none of " + joined(point_names()));
  if (wait_ms > 10000) return no("\"wait_ms\" must be at most 10000");
  bool const of_purchase = *p != Point::before && *p != Point::after;
  if (body == nullptr && of_purchase) return no("fault point \"" + at + "\" is of purchases only");
  return Fault{*k, *p, static_cast<unsigned>(wait_ms), 0, nullptr};
}

srs::options Service::scope_of(std::uint64_t user, Fault const& fault) const {
  srs::options scope;
  scope.user = user;
  scope.isolation = options_.isolation;
  scope.deadline_ms = fault.hangs() ? options_.hang_deadline_ms : options_.deadline_ms;
  return scope;
}

template <class F>
bool Service::read(Request const& req, Response& res, F f) {
  ++requests_;
  auto const fault = fault_of(req, nullptr);
  if (!fault) {
    refuse(res, options_.inject ? 400 : 403, fault.error());
    return false;
  }
  std::uint64_t const user = number_in(req.get_header_value("X-User")).value_or(0);
  srs_status const status = srs::request(
      [&] {
        fault->strike(Point::before);
        f();
        fault->strike(Point::after);
      },
      scope_of(user, *fault));
  if (status == SRS_OK) return true;
  if (status == SRS_FAULTED) {
    ++faults_;
    say(res, 500, {{"error", "faulted"}, {"committed", false}, {"fault", last_fault()}});
  } else {
    refuse(res, 503, "the request could not be started");
  }
  return false;
}

void Service::get_books(Request const& req, Response& res) {
  std::vector<Row> rows(catalogue_.size());
  if (read(req, res, [&] {
        for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = catalogue_.row(i);
      }))
    say(res, 200, {{"books", rows}});
}

void Service::get_book(Request const& req, Response& res) {
  auto const book = number_in(req.matches[1]);
  if (!book || *book >= catalogue_.size()) return refuse(res, 404, "no such book");
  Row row;
  if (read(req, res, [&] { row = catalogue_.row(*book); })) say(res, 200, row);
}

void Service::get_orders(Request const& req, Response& res) {
  auto const user = number_param(req, "user", std::nullopt);
  if (!user) return refuse(res, 400, "give ?user=NUMBER");
  std::vector<Order> orders;
  if (read(req, res, [&] { orders = ledger_.of_user(*user, kOrdersShown); }))
    say(res, 200, {{"user", *user}, {"limit", kOrdersShown}, {"orders", orders}});
}

void Service::get_order(Request const& req, Response& res) {
  std::string const request = req.matches[1];
  std::optional<Order> order;
  if (!read(req, res, [&] { order = ledger_.find(request); })) return;
  if (order)
    say(res, 200, *order);
  else
    say(res, 404, {{"error", "no such order"}, {"request", request}});
}

void Service::get_ledger(Request const& req, Response& res) {
  auto const from = number_param(req, "from", 1);
  if (!from) return refuse(res, 400, "\"from\" must be an order number");
  std::vector<Order> orders;
  std::uint64_t count = 0;
  if (read(req, res, [&] { orders = ledger_.list(*from, kLedgerPage, &count); }))
    say(res, 200, {{"count", count}, {"orders", orders}});
}

void Service::get_stats(Response& res) {
  say(res, 200,
      {{"srs_active", srs_active()},
       {"requests", requests_.load()},
       {"faults", faults_.load()},
       {"purchases_answered", answered_->load()}});
}

void Service::get_pauses(Response& res) {
  json ended = json::array();
  for (auto const& o : pauses_.outcomes())
    ended.push_back({{"book", o.book},
                     {"others_begun", o.others_begun},
                     {"others_done", o.others_done},
                     {"waited_ms", o.waited_ms}});
  say(res, 200, {{"waiting", pauses_.waiting()}, {"ended", ended}});
}

bool Service::answer_faulted(Wish const& wish, std::uint64_t purchase, Response& res) {
  ++faults_;
  json const fault = last_fault();
  std::optional<Order> order;
  bool known = false;
  // The truth, not a guess: some isolation modes keep what was done before the fault.
  if (srs::request([&] { order = settle(catalogue_, ledger_, wish, purchase); }, scope_of(wish.user, {})) == SRS_OK)
    known = true;
  json body = {{"error", "faulted"}, {"request", wish.request}, {"fault", fault}};
  body["committed"] = known ? json(order.has_value()) : json(nullptr);
  if (order) body["order"] = *order;
  say(res, 500, body);
  return order.has_value();
}

void Service::post_buy(Request const& req, Response& res) {
  ++requests_;
  json const body = json::parse(req.body, nullptr, false);
  auto const wish = wish_in(body, catalogue_.size());
  if (!wish) return refuse(res, 400, wish.error());
  auto fault = fault_of(req, &body);
  if (!fault) return refuse(res, options_.inject ? 400 : 403, fault.error());
  fault->book = wish->book;
  fault->pauses = &pauses_;

  std::uint64_t const purchase = ++purchases_;
  bool const in_scope = options_.answer != Answer::after;
  Receipt receipt;
  bool sent = false;
  auto scope = scope_of(wish->user, *fault);
  scope.commit_on_send = options_.answer == Answer::send;

  pauses_.purchase_begun(wish->book);
  srs_status const status = srs::request(
      [&] {
        receipt = buy(catalogue_, ledger_, *wish, purchase, *fault);
        if (!in_scope || receipt.outcome != Outcome::bought) return;
        *answered_ += 1;
        HttpServer::answer_now(200, json(receipt.order).dump());
        sent = true;
        fault->strike(Point::sent);
      },
      scope);
  pauses_.purchase_done(wish->book);

  if (status == SRS_FAULTED) {
    bool const committed = answer_faulted(*wish, purchase, res);
    // Output that was the commit is out, and true; held output went with the scope.
    bool const out = sent && options_.answer == Answer::send && committed;
    if (!out) HttpServer::answer_again();
    return;
  }
  if (status != SRS_OK) return refuse(res, 503, "the request could not be started");

  switch (receipt.outcome) {
    case Outcome::bought:
      if (!write_journal(options_.journal, receipt.order)) return refuse(res, 500, "the journal cannot be written");
      say(res, 200, receipt.order);
      break;
    case Outcome::conflict:
      say(res, 409, {{"error", "this request id has another order"}, {"order", receipt.order}});
      break;
    case Outcome::sold_out:
      refuse(res, 409, "sold out");
      break;
    case Outcome::busy:
      refuse(res, 503, "busy: try again");
      break;
  }
  if (in_scope) return;
  HttpServer::after_answer([this, user = wish->user, late = *fault] {
    srs_status const done = srs::request(
        [&] {
          *answered_ += 1;
          late.strike(Point::sent);
        },
        scope_of(user, late));
    if (done == SRS_FAULTED) ++faults_;
  });
}

}  // namespace bookstore
