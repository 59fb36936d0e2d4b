// One purchase: two critical sections, the first under the book's lock, the second under the book's
// and the ledger's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "examples/bookstore/catalogue.hpp"
#include "examples/bookstore/inject.hpp"
#include "examples/bookstore/ledger.hpp"

namespace bookstore {

struct Wish {
  std::string request;
  std::uint64_t user = 0;
  std::uint64_t book = 0;
  std::int64_t copies = 0;
};

enum class Outcome {
  bought,    // `order` is in the ledger, now or by an earlier purchase with the same request id
  conflict,  // the request id has an order for something else
  sold_out,
  busy,  // too many purchases of this book at once, or the ledger is full
};

struct Receipt {
  Outcome outcome = Outcome::busy;
  Order order;  // of `bought` and `conflict`
};

// `purchase`: a number that no other purchase of this process has; not 0. Run it in a scope.
Receipt buy(Catalogue&, Ledger&, Wish const&, std::uint64_t purchase, Fault const&);

// What really is, after the scope of a purchase faulted: the order if it is committed all the same;
// else nothing, and then its copies are back in stock.
std::optional<Order> settle(Catalogue&, Ledger&, Wish const&, std::uint64_t purchase);

}  // namespace bookstore
