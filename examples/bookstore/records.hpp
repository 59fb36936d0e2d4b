// What the bookstore's server and its judge exchange: a catalogue row, an order, and the digest that
// each record carries so that a reader can tell a whole record from a torn one. Money is in cents.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace bookstore {

inline constexpr std::size_t kMaxRequestId = 39;  // bytes

// A book as it stands. Between the two sections of a purchase its copies are neither stock nor sold
// but reserved: stock + reserved + sold never changes.
struct Row {
  std::uint64_t book = 0;
  std::string title;
  std::int64_t price = 0;
  std::int64_t stock = 0;
  std::int64_t reserved = 0;
  std::int64_t sold = 0;
  std::int64_t revenue = 0;   // of the copies sold
  std::uint64_t version = 0;  // +1 at each change
  std::uint64_t digest = 0;   // stored by whoever changed the row last: digest_of() of all above
                              // but the title
  bool operator==(Row const&) const = default;
};

struct Order {
  std::uint64_t number = 0;  // from 1, in ledger order
  std::string request;       // chosen by the client; at most kMaxRequestId bytes
  std::uint64_t user = 0;
  std::uint64_t book = 0;
  std::int64_t copies = 0;
  std::int64_t price = 0;
  std::int64_t total = 0;
  std::uint64_t digest = 0;  // stored with the order: digest_of() of all above
  bool operator==(Order const&) const = default;
};

std::uint64_t digest_of(Row const&);
std::uint64_t digest_of(Order const&);

// FNV-1a, 64 bits.
std::uint64_t hash_of(std::string_view);

// Digests travel as 16 hexadecimal digits: JSON numbers lose bits in many clients.
// The from_json functions throw nlohmann::json::exception or std::invalid_argument.
void to_json(nlohmann::json&, Row const&);
void from_json(nlohmann::json const&, Row&);
void to_json(nlohmann::json&, Order const&);
void from_json(nlohmann::json const&, Order&);

}  // namespace bookstore
