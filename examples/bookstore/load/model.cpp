#include "examples/bookstore/load/model.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace bookstore::load {
namespace {

template <class Record>
std::string text_of(Record const& record) {
  return nlohmann::json(record).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string text_of(Purchase const& p) {
  return "user " + std::to_string(p.user) + ", request " + p.request + ", " + std::to_string(p.copies) + " of book " +
         std::to_string(p.book);
}

}  // namespace

std::string_view name_of(Wrong kind) {
  constexpr std::string_view names[kWrongKinds] = {"malformed", "torn",      "arithmetic", "stale",
                                                   "lost",      "duplicate", "phantom",    "lie"};
  return names[static_cast<std::size_t>(kind)];
}

void Model::wrong(Wrong kind, std::uint64_t user, std::string text) {
  ++finding_.wrong[static_cast<std::size_t>(kind)];
  ++finding_.wrong_answers;
  if (finding_.first.size() < kSpelledOut) finding_.first.push_back({kind, user, std::move(text)});
}

void Model::lost_update(Wrong kind, std::uint64_t user, std::string text) {
  ++finding_.lost_updates;
  if (finding_.first.size() < kSpelledOut) finding_.first.push_back({kind, user, std::move(text)});
}

void Model::begin(std::vector<Row> const& rows, std::vector<Order> const& orders) {
  std::lock_guard const hold(lock_);
  start_ = rows;
  versions_.assign(rows.size(), 0);
  wanted_.assign(rows.size(), 0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].book != i) wrong(Wrong::malformed, 0, "row " + std::to_string(i) + " is " + text_of(rows[i]));
    check_row(0, rows[i]);
    versions_[i] = rows[i].version;
  }
  for (auto const& order : orders) {
    if (digest_of(order) != order.digest) wrong(Wrong::torn, 0, "before: " + text_of(order));
    earlier_[order.request] = order;
    numbers_[order.number] = order.request;
  }
}

Floor Model::floor() const {
  std::lock_guard const hold(lock_);
  return versions_;
}

void Model::sent(Purchase const& wish) {
  std::lock_guard const hold(lock_);
  placed_[wish.request].wish = wish;
  if (wish.book < wanted_.size()) wanted_[wish.book] += wish.copies;
}

Model::Placed* Model::placed(std::string const& request) {
  auto const it = placed_.find(request);
  return it == placed_.end() ? nullptr : &it->second;
}

bool Model::check_order(std::uint64_t user, Order const& order, Placed* placed) {
  bool good = true;
  if (digest_of(order) != order.digest) {
    wrong(Wrong::torn, user, "order " + text_of(order));
    return false;
  }
  if (order.book >= start_.size() || order.price != start_[order.book].price ||
      order.total != order.price * order.copies) {
    wrong(Wrong::arithmetic, user, "order " + text_of(order));
    good = false;
  }
  if (placed == nullptr) {
    wrong(Wrong::phantom, user, "nobody placed " + text_of(order));
    return false;
  }
  Purchase const& wish = placed->wish;
  if (order.request != wish.request || order.user != wish.user || order.book != wish.book ||
      order.copies != wish.copies) {
    wrong(Wrong::phantom, user, text_of(wish) + " became " + text_of(order));
    return false;
  }
  auto const [it, first] = numbers_.emplace(order.number, order.request);
  if ((!first && it->second != order.request) || (placed->number != 0 && placed->number != order.number)) {
    wrong(Wrong::duplicate, user,
          "order number " + std::to_string(order.number) + " of " + order.request + " was given to " + it->second +
              "; earlier number " + std::to_string(placed->number));
    return false;
  }
  placed->number = order.number;
  return good;
}

void Model::bought(std::uint64_t user, std::string const& request, Order const& order) {
  std::lock_guard const hold(lock_);
  Placed* const p = placed(request);
  if (p == nullptr) return wrong(Wrong::phantom, user, "an answer to " + request);
  p->fate = Fate::acknowledged;
  ++acknowledged_by_user_[p->wish.user];
  check_order(user, order, p);
}

void Model::told(std::uint64_t user, std::string const& request, bool committed) {
  std::lock_guard const hold(lock_);
  Placed* const p = placed(request);
  if (p == nullptr) return wrong(Wrong::phantom, user, "an answer to " + request);
  p->fate = committed ? Fate::acknowledged : Fate::denied;
  if (committed) ++acknowledged_by_user_[p->wish.user];
}

void Model::refused(std::uint64_t user, std::string const& request) {
  std::lock_guard const hold(lock_);
  Placed* const p = placed(request);
  if (p == nullptr) return wrong(Wrong::phantom, user, "an answer to " + request);
  p->fate = Fate::refused;
  if (p->wish.book < wanted_.size()) wanted_[p->wish.book] -= p->wish.copies;
}

void Model::sold_out(std::uint64_t user, std::string const& request) {
  refused(user, request);
  std::lock_guard const hold(lock_);
  Placed* const p = placed(request);
  if (p == nullptr || p->wish.book >= start_.size()) return;
  // A purchase that faulted may have held copies when this one was refused: it counts as wanted.
  std::int64_t const left = start_[p->wish.book].stock - wanted_[p->wish.book];
  if (left >= p->wish.copies)
    wrong(Wrong::arithmetic, user,
          "\"sold out\", with " + std::to_string(left) + " copies that nobody else asked for: " + text_of(p->wish));
}

void Model::unanswered(std::uint64_t, std::string const& request) {
  std::lock_guard const hold(lock_);
  if (Placed* const p = placed(request)) p->fate = Fate::unknown;
}

void Model::looked_up(std::uint64_t user, std::string const& request, std::optional<Order> const& found) {
  std::lock_guard const hold(lock_);
  Placed* const p = placed(request);
  if (p == nullptr) {
    if (found) check_order(user, *found, nullptr);
    return;
  }
  if (found) check_order(user, *found, p);
  switch (p->fate) {
    case Fate::acknowledged:
      if (!found) wrong(Wrong::lost, user, "acknowledged, not found: " + text_of(p->wish));
      break;
    case Fate::denied:
    case Fate::refused:
      if (found) wrong(Wrong::lie, user, "told \"not committed\": " + text_of(*found));
      break;
    case Fate::open:
    case Fate::unknown:
      if (found) p->fate = Fate::unknown_committed;
      break;
    case Fate::unknown_committed:
      if (!found) wrong(Wrong::lost, user, "found once, then not: " + text_of(p->wish));
      break;
  }
}

void Model::check_row(std::uint64_t user, Row const& row) {
  if (row.book >= start_.size()) return wrong(Wrong::malformed, user, "book " + text_of(row));
  if (digest_of(row) != row.digest) return wrong(Wrong::torn, user, "book " + text_of(row));
  Row const& start = start_[row.book];
  if (row.price != start.price || row.stock < 0 || row.reserved < 0 || row.sold < start.sold ||
      row.stock + row.reserved + row.sold != start.stock + start.reserved + start.sold ||
      row.revenue != row.sold * row.price)
    wrong(Wrong::arithmetic, user, "book " + text_of(row) + " began as " + text_of(start));
}

void Model::saw_row(std::uint64_t user, Row const& row, Floor const& before) {
  std::lock_guard const hold(lock_);
  check_row(user, row);
  if (row.book >= start_.size()) return;
  if (row.book < before.size() && row.version < before[row.book])
    wrong(Wrong::stale, user, "version " + std::to_string(before[row.book]) + " had been seen: " + text_of(row));
  versions_[row.book] = std::max(versions_[row.book], row.version);
}

void Model::saw_orders(std::uint64_t user, std::vector<Order> const& orders, std::size_t limit) {
  std::lock_guard const hold(lock_);
  std::uint64_t mine = 0;
  std::set<std::uint64_t> seen;
  for (auto const& order : orders) {
    if (!seen.insert(order.number).second) {
      wrong(Wrong::duplicate, user, "twice in one answer: " + text_of(order));
      continue;
    }
    if (auto const it = earlier_.find(order.request); it != earlier_.end()) {
      if (it->second != order) wrong(Wrong::torn, user, "changed: " + text_of(order));
      continue;
    }
    Placed* const p = placed(order.request);
    if (order.user != user) {
      wrong(Wrong::phantom, user, "somebody else's: " + text_of(order));
      continue;
    }
    if (!check_order(user, order, p)) continue;
    if (p->fate == Fate::acknowledged) ++mine;
    if (p->fate == Fate::denied || p->fate == Fate::refused)
      wrong(Wrong::lie, user, "told \"not committed\": " + text_of(order));
  }
  auto const it = acknowledged_by_user_.find(user);
  if (it != acknowledged_by_user_.end() && mine < it->second && orders.size() < limit)
    wrong(Wrong::lost, user,
          std::to_string(it->second) + " purchases acknowledged, " + std::to_string(mine) + " orders shown");
}

void Model::malformed(std::uint64_t user, std::string const& what) {
  std::lock_guard const hold(lock_);
  wrong(Wrong::malformed, user, what);
}

void Model::finish(std::vector<Row> const& rows, std::vector<Order> const& orders) {
  std::lock_guard const hold(lock_);
  finding_.finished = true;
  std::vector<std::int64_t> copies(start_.size());
  std::set<std::string> seen;
  std::uint64_t number = 0;
  for (auto const& order : orders) {
    if (order.number != ++number) {
      wrong(Wrong::malformed, 0, "place " + std::to_string(number) + " of the ledger has " + text_of(order));
      number = order.number;
    }
    if (!seen.insert(order.request).second) wrong(Wrong::duplicate, 0, "twice in the ledger: " + text_of(order));
    if (auto const it = earlier_.find(order.request); it != earlier_.end()) {
      if (it->second != order) wrong(Wrong::torn, 0, "changed: " + text_of(order));
      continue;
    }
    Placed* const p = placed(order.request);
    check_order(0, order, p);
    if (order.book < copies.size()) copies[order.book] += order.copies;
    if (p == nullptr) continue;
    if (p->fate == Fate::denied || p->fate == Fate::refused)
      wrong(Wrong::lie, p->wish.user, "told \"not committed\": " + text_of(order));
    if (p->fate == Fate::open || p->fate == Fate::unknown) p->fate = Fate::unknown_committed;
  }
  for (auto const& [request, order] : earlier_)
    if (!seen.contains(request)) lost_update(Wrong::lost, order.user, "gone: " + text_of(order));
  for (auto const& [request, p] : placed_) {
    bool const there = seen.contains(request);
    if (p.fate == Fate::acknowledged && !there)
      lost_update(Wrong::lost, p.wish.user, "acknowledged, not in the ledger: " + text_of(p.wish));
    if (p.fate == Fate::unknown_committed && !there)
      lost_update(Wrong::lost, p.wish.user, "found once, not in the ledger: " + text_of(p.wish));
  }

  if (rows.size() != start_.size())
    wrong(Wrong::malformed, 0, std::to_string(rows.size()) + " books, once " + std::to_string(start_.size()));
  for (auto const& row : rows) {
    check_row(0, row);
    if (row.book >= start_.size()) continue;
    Row const& start = start_[row.book];
    std::int64_t const sold = copies[row.book];
    if (row.stock != start.stock - sold || row.sold != start.sold + sold || row.reserved != 0 ||
        row.revenue != start.revenue + sold * start.price)
      lost_update(
          Wrong::arithmetic, 0,
          "orders for " + std::to_string(sold) + " copies, began as " + text_of(start) + ", ends as " + text_of(row));
    if (row.version < versions_[row.book])
      wrong(Wrong::stale, 0, "version " + std::to_string(versions_[row.book]) + " had been seen: " + text_of(row));
  }
}

Finding Model::finding() const {
  std::lock_guard const hold(lock_);
  Finding finding = finding_;
  for (auto const& [request, p] : placed_) {
    switch (p.fate) {
      case Fate::acknowledged:
        ++finding.acknowledged;
        break;
      case Fate::denied:
        ++finding.denied;
        break;
      case Fate::refused:
        ++finding.refused;
        break;
      case Fate::unknown_committed:
        ++finding.unknown_committed;
        [[fallthrough]];
      case Fate::open:
      case Fate::unknown:
        ++finding.unknown;
        break;
    }
  }
  return finding;
}

}  // namespace bookstore::load
