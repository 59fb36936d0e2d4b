#include "examples/bookstore/purchase.hpp"

namespace bookstore {
namespace {

Receipt for_existing(Order const& order, Wish const& wish) {
  bool const same = order.user == wish.user && order.book == wish.book && order.copies == wish.copies;
  return {same ? Outcome::bought : Outcome::conflict, order};
}

}  // namespace

Receipt buy(Catalogue& catalogue, Ledger& ledger, Wish const& wish, std::uint64_t purchase, Fault const& fault) {
  fault.strike(Point::before);
  if (auto const order = ledger.find(wish.request)) return for_existing(*order, wish);

  switch (catalogue.reserve(wish.book, purchase, wish.copies, fault)) {
    case Catalogue::Taken::ok:
      break;
    case Catalogue::Taken::sold_out:
      return {Outcome::sold_out, {}};
    case Catalogue::Taken::busy:
      return {Outcome::busy, {}};
  }

  fault.strike(Point::between);

  std::int64_t const price = catalogue.row(wish.book).price;
  Order order{0, wish.request, wish.user, wish.book, wish.copies, price, price * wish.copies, 0};
  Ledger::Added added;
  {
    auto const hold = catalogue.lock(wish.book);
    added = ledger.append(order, fault);
    if (added == Ledger::Added::ok) catalogue.sell(wish.book, purchase);
  }
  fault.strike(Point::after);
  if (added == Ledger::Added::ok) return {Outcome::bought, order};
  catalogue.cancel(wish.book, purchase);
  if (added == Ledger::Added::exists) return for_existing(order, wish);
  return {Outcome::busy, {}};
}

std::optional<Order> settle(Catalogue& catalogue, Ledger& ledger, Wish const& wish, std::uint64_t purchase) {
  catalogue.cancel(wish.book, purchase);
  auto order = ledger.find(wish.request);
  if (order && for_existing(*order, wish).outcome == Outcome::conflict) return std::nullopt;
  return order;
}

}  // namespace bookstore
