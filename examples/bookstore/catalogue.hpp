// The books, in monitored memory; each book under a lock of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <srs/srs.hpp>
#include <vector>

#include "examples/bookstore/inject.hpp"
#include "examples/bookstore/records.hpp"

namespace bookstore {

// Thread-safe. Book ids are 0 .. size() - 1; callers check them.
class Catalogue {
 public:
  // `buyers`: how many purchases of one book can be under way at once. Throws std::bad_alloc.
  Catalogue(std::size_t books, std::int64_t stock, std::size_t buyers);

  std::size_t size() const { return books_.size(); }
  Row row(std::uint64_t book) const;

  enum class Taken { ok, sold_out, busy };
  // Section 1 of a purchase: moves copies from stock to reserved, under the book's lock, and notes
  // that `purchase` (not 0) holds them.
  Taken reserve(std::uint64_t book, std::uint64_t purchase, std::int64_t copies, Fault const&);

  // The lock of section 2, which changes this book and the ledger together.
  [[nodiscard]] std::unique_lock<std::mutex> lock(std::uint64_t book);
  // Under that lock: the reserved copies of `purchase` are sold.
  void sell(std::uint64_t book, std::uint64_t purchase);

  // Gives back what `purchase` still has reserved; true if there was something. After a fault: a
  // scope whose first section was final already (isolation `release`) leaves its reservation.
  bool cancel(std::uint64_t book, std::uint64_t purchase);

 private:
  struct Reservation {
    srs::shared<std::uint64_t> purchase;  // 0: free
    srs::shared<std::int64_t> copies;
  };
  struct Book {
    srs::shared<std::int64_t> price, stock, reserved, sold, revenue;
    srs::shared<std::uint64_t> version, digest;
    Reservation* reservations;  // buyers_ of them; set once
    char title[64];             // set once
  };

  Row read(std::uint64_t book) const;
  void seal(std::uint64_t book);
  Reservation* find(std::uint64_t book, std::uint64_t purchase);

  std::size_t buyers_;
  std::vector<Book, srs::allocator<Book>> books_;
  std::vector<Reservation, srs::allocator<Reservation>> reservations_;
  std::unique_ptr<std::mutex[]> locks_;
};

}  // namespace bookstore
