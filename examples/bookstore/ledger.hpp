// The orders, append-only, in monitored memory under one lock: chunks of records that purchases
// allocate as they need them, an index by request id, and a chain for each user.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <srs/srs.hpp>
#include <string_view>
#include <vector>

#include "examples/bookstore/inject.hpp"
#include "examples/bookstore/records.hpp"

namespace bookstore {

// Thread-safe. Lock order: a book's lock before the ledger's.
class Ledger {
 public:
  Ledger();  // throws std::bad_alloc
  ~Ledger();
  Ledger(Ledger const&) = delete;
  Ledger& operator=(Ledger const&) = delete;

  enum class Added { ok, exists, full };
  // Appends the order and fills in its number and digest; `exists` if the request id has an order.
  Added append(Order& order, Fault const& fault);

  std::optional<Order> find(std::string_view request) const;
  // At most `limit` orders from the number `from` on; *count: how many the ledger has in all.
  std::vector<Order> list(std::uint64_t from, std::size_t limit, std::uint64_t* count) const;
  // The user's newest orders, newest first.
  std::vector<Order> of_user(std::uint64_t user, std::size_t limit) const;

 private:
  struct Record {
    srs::shared<std::uint64_t> number, user, book;
    srs::shared<std::int64_t> copies, price, total;
    srs::shared<std::uint64_t> digest;
    srs::shared<std::uint64_t> next_in_index, next_of_user;  // order numbers; 0: end
    char request[kMaxRequestId + 1];
  };
  static constexpr std::size_t kChunk = 256;  // records
  static constexpr std::size_t kChunks = 8192;
  static constexpr std::size_t kHeads = 4096;
  struct Tables {
    srs::shared<std::uint64_t> count;
    srs::shared<Record*> chunks[kChunks];
    srs::shared<std::uint64_t> index[kHeads];  // by hash of the request id: newest order's number
    srs::shared<std::uint64_t> users[kHeads];  // by user id modulo kHeads
  };

  Record const& record(std::uint64_t number) const;
  Order read(std::uint64_t number) const;
  std::uint64_t number_of(std::string_view request) const;

  mutable std::mutex lock_;
  Tables* tables_;
};

}  // namespace bookstore
