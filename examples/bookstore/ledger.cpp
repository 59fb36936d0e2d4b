#include "examples/bookstore/ledger.hpp"

#include <new>

namespace bookstore {

// All zero is the empty ledger: no constructor has to write its 16,000 words one by one.
Ledger::Ledger() : tables_(static_cast<Tables*>(srs_calloc(1, sizeof(Tables)))) {
  if (tables_ == nullptr) throw std::bad_alloc();
}

Ledger::~Ledger() {
  for (auto const& chunk : tables_->chunks) srs_free(chunk.load());
  srs_free(tables_);
}

Ledger::Record const& Ledger::record(std::uint64_t number) const {
  return tables_->chunks[(number - 1) / kChunk].load()[(number - 1) % kChunk];
}

Order Ledger::read(std::uint64_t number) const {
  Record const& r = record(number);
  return {r.number, r.request, r.user, r.book, r.copies, r.price, r.total, r.digest};
}

std::uint64_t Ledger::number_of(std::string_view request) const {
  std::uint64_t number = tables_->index[hash_of(request) % kHeads];
  while (number != 0 && record(number).request != request) number = record(number).next_in_index;
  return number;
}

Ledger::Added Ledger::append(Order& order, Fault const& fault) {
  std::lock_guard const hold(lock_);
  if (std::uint64_t const there = number_of(order.request); there != 0) {
    order = read(there);
    return Added::exists;
  }
  std::uint64_t const at = tables_->count;
  if (at == kChunk * kChunks) return Added::full;
  auto& chunk = tables_->chunks[at / kChunk];
  if (chunk.load() == nullptr) {
    auto* const fresh = static_cast<Record*>(srs_calloc(kChunk, sizeof(Record)));
    if (fresh == nullptr) return Added::full;
    chunk = fresh;
  }
  Record& r = chunk.load()[at % kChunk];
  order.number = at + 1;
  order.digest = digest_of(order);

  // The order counts before it is whole: under the lock nobody sees that, unless a fault ends the
  // section here and nobody undoes it.
  auto& head = tables_->index[hash_of(order.request) % kHeads];
  auto& user = tables_->users[order.user % kHeads];
  srs_assign(r.request, order.request.c_str(), order.request.size() + 1);
  r.number = order.number;
  r.user = order.user;
  r.next_in_index = head.load();
  r.next_of_user = user.load();
  head = order.number;
  user = order.number;
  tables_->count = order.number;
  fault.strike(Point::torn);
  r.book = order.book;
  r.copies = order.copies;
  r.price = order.price;
  r.total = order.total;
  r.digest = order.digest;
  return Added::ok;
}

std::optional<Order> Ledger::find(std::string_view request) const {
  std::lock_guard const hold(lock_);
  std::uint64_t const number = number_of(request);
  if (number == 0) return std::nullopt;
  return read(number);
}

std::vector<Order> Ledger::list(std::uint64_t from, std::size_t limit, std::uint64_t* count) const {
  std::vector<Order> orders;
  std::lock_guard const hold(lock_);
  *count = tables_->count;
  for (std::uint64_t n = from == 0 ? 1 : from; n <= *count && orders.size() < limit; ++n) orders.push_back(read(n));
  return orders;
}

std::vector<Order> Ledger::of_user(std::uint64_t user, std::size_t limit) const {
  std::vector<Order> orders;
  std::lock_guard const hold(lock_);
  std::uint64_t n = tables_->users[user % kHeads];
  for (; n != 0 && orders.size() < limit; n = record(n).next_of_user)
    if (record(n).user == user) orders.push_back(read(n));
  return orders;
}

}  // namespace bookstore
