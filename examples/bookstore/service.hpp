// The bookstore's endpoints (docs/bookstore.md), each request in a scope of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <srs/srs.hpp>
#include <string>
#include <tl/expected.hpp>

#include "examples/bookstore/catalogue.hpp"
#include "examples/bookstore/inject.hpp"
#include "examples/bookstore/ledger.hpp"
#include "examples/bookstore/purchase.hpp"
#include "examples/bookstore/transport.hpp"

namespace bookstore {

// When a purchase's answer is written.
enum class Answer {
  after,  // by the library, when the scope has committed
  send,   // in the scope, whose first send is its commit (commit_on_send)
  held,   // in the scope, and held by the monitor until the scope commits
};

struct ServiceOptions {
  std::size_t books = 10;
  std::int64_t stock = 1000;
  std::size_t threads = 64;
  bool inject = false;
  std::uint64_t deadline_ms = 0;         // of every scope; 0: none
  std::uint64_t hang_deadline_ms = 200;  // of a scope whose injected fault is a hang
  Answer answer = Answer::after;
  int isolation = SRS_DEFAULT;  // enum srs_isolation, or as the monitor was told
  int journal = -1;             // a file to which each order is appended and synced before its answer; -1: none
};

class Service {
 public:
  Service(ServiceOptions const&, HttpServer&);  // throws std::bad_alloc

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;

  void get_books(Request const&, Response&);
  void get_book(Request const&, Response&);
  void get_orders(Request const&, Response&);
  void get_order(Request const&, Response&);
  void get_ledger(Request const&, Response&);
  void get_stats(Response&);
  void get_pauses(Response&);
  void post_buy(Request const&, Response&);

  tl::expected<Fault, std::string> fault_of(Request const&, nlohmann::json const* body) const;
  srs::options scope_of(std::uint64_t user, Fault const&) const;
  // Runs a read in a scope and answers 500 or 503 if it did not come to its end.
  template <class F>
  bool read(Request const&, Response&, F f);
  // True if the order is committed all the same.
  bool answer_faulted(Wish const&, std::uint64_t purchase, Response&);

  ServiceOptions options_;
  Catalogue catalogue_;
  Ledger ledger_;
  Pauses pauses_;
  srs::shared<std::uint64_t>* answered_;  // purchases answered: changed when the answer is out
  std::atomic<std::uint64_t> purchases_{0}, requests_{0}, faults_{0};
  std::string instance_;
};

}  // namespace bookstore
