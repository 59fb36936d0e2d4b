#include "examples/bookstore/catalogue.hpp"

#include <cstdio>

// Fields are changed by plain load and store, not by += : a sum that another scope's value went
// into would commute, the digest over it would not.

namespace bookstore {
namespace {

constexpr char const* kTitles[] = {
    "The Art of the Undo",
    "Owner Tags in Winter",
    "A Short History of Faults",
    "Two Critical Sections",
    "The Patient Ledger",
    "Pages That Went Away",
    "Nobody Else Noticed",
    "Scopes and Their Endings",
    "The Borrowed Stack",
    "What the Monitor Saw",
    "Twenty Users",
    "Deadlines for Beginners",
};

}  // namespace

Catalogue::Catalogue(std::size_t books, std::int64_t stock, std::size_t buyers)
    : buyers_(buyers), books_(books), reservations_(books * buyers), locks_(std::make_unique<std::mutex[]>(books)) {
  for (std::size_t i = 0; i < books; ++i) {
    Book& book = books_[i];
    constexpr std::size_t titles = std::size(kTitles);
    if (i < titles)
      std::snprintf(book.title, sizeof book.title, "%s", kTitles[i]);
    else
      std::snprintf(book.title, sizeof book.title, "%s, vol. %zu", kTitles[i % titles], i / titles + 1);
    book.reservations = reservations_.data() + i * buyers;
    book.price = 500 + static_cast<std::int64_t>(i * 137 % 4500);
    book.stock = stock;
    book.version = 1;
    book.digest = digest_of(read(i));
  }
}

Row Catalogue::read(std::uint64_t id) const {
  Book const& b = books_[id];
  return {id, b.title, b.price, b.stock, b.reserved, b.sold, b.revenue, b.version, b.digest};
}

Row Catalogue::row(std::uint64_t book) const {
  std::lock_guard const hold(locks_[book]);
  return read(book);
}

void Catalogue::seal(std::uint64_t id) {
  Book& book = books_[id];
  book.version = book.version + 1;
  book.digest = digest_of(read(id));
}

Catalogue::Reservation* Catalogue::find(std::uint64_t book, std::uint64_t purchase) {
  for (std::size_t i = 0; i < buyers_; ++i) {
    Reservation& r = books_[book].reservations[i];
    if (r.purchase == purchase) return &r;
  }
  return nullptr;
}

Catalogue::Taken Catalogue::reserve(std::uint64_t id, std::uint64_t purchase, std::int64_t copies, Fault const& fault) {
  std::lock_guard const hold(locks_[id]);
  Book& book = books_[id];
  if (book.stock < copies) return Taken::sold_out;
  Reservation* const reservation = find(id, 0);
  if (reservation == nullptr) return Taken::busy;
  book.stock = book.stock - copies;
  fault.strike(Point::mid);
  book.reserved = book.reserved + copies;
  reservation->purchase = purchase;
  reservation->copies = copies;
  seal(id);
  return Taken::ok;
}

std::unique_lock<std::mutex> Catalogue::lock(std::uint64_t book) {
  return std::unique_lock(locks_[book]);
}

void Catalogue::sell(std::uint64_t id, std::uint64_t purchase) {
  Reservation* const reservation = find(id, purchase);
  Book& book = books_[id];
  std::int64_t const copies = reservation->copies;
  book.reserved = book.reserved - copies;
  book.sold = book.sold + copies;
  book.revenue = book.revenue + copies * book.price;
  reservation->purchase = 0;
  reservation->copies = 0;
  seal(id);
}

bool Catalogue::cancel(std::uint64_t id, std::uint64_t purchase) {
  std::lock_guard const hold(locks_[id]);
  Reservation* const reservation = find(id, purchase);
  if (reservation == nullptr) return false;
  Book& book = books_[id];
  std::int64_t const copies = reservation->copies;
  book.reserved = book.reserved - copies;
  book.stock = book.stock + copies;
  reservation->purchase = 0;
  reservation->copies = 0;
  seal(id);
  return true;
}

}  // namespace bookstore
