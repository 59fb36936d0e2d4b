// The judge: what the clients know, and whether each answer agrees with it. It never asks the server
// whether it is well; it compares answers with what was sent and with each other.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "examples/bookstore/records.hpp"

namespace bookstore::load {

enum class Wrong {
  malformed,   // not what the endpoint promises
  torn,        // a record whose digest does not fit its fields
  arithmetic,  // copies that appeared or vanished, a total that is no product, a changed price
  stale,       // older than something that was answered before this request was sent
  lost,        // an order that was acknowledged (or said to be committed) and is not there
  duplicate,   // one order twice, or two orders for one purchase
  phantom,     // an order that nobody placed, or one that differs from what was asked for
  lie,         // the order is there, and its user was told that it is not
};
inline constexpr std::size_t kWrongKinds = 8;
std::string_view name_of(Wrong);

struct WrongAnswer {
  Wrong kind;
  std::uint64_t user;
  std::string text;
};

struct Purchase {
  std::uint64_t user = 0;
  std::string request;
  std::uint64_t book = 0;
  std::int64_t copies = 0;
};

// What had been answered about each book's version when a request was sent.
using Floor = std::vector<std::uint64_t>;

struct Finding {
  std::array<std::uint64_t, kWrongKinds> wrong{};
  std::uint64_t wrong_answers = 0;  // their sum: every one but the lost updates
  // Acknowledged purchases that are not in the final ledger, plus books whose final stock, sales or
  // revenue are not those of the ledger's orders.
  std::uint64_t lost_updates = 0;
  std::uint64_t acknowledged = 0, denied = 0, refused = 0, unknown = 0, unknown_committed = 0;
  bool finished = false;           // finish() had the final state to judge
  std::vector<WrongAnswer> first;  // the first kSpelledOut, wrong answers and lost updates
};

// Thread-safe.
class Model {
 public:
  static constexpr std::size_t kSpelledOut = 10;

  // The state before the first user: at rest (nothing reserved). Orders found there stay.
  void begin(std::vector<Row> const& rows, std::vector<Order> const& orders);

  std::size_t books() const { return start_.size(); }
  Floor floor() const;

  // A user is about to send this.
  void sent(Purchase const&);
  // 200: the order.
  void bought(std::uint64_t user, std::string const& request, Order const&);
  // Faulted, with the server's word on whether the order is committed.
  void told(std::uint64_t user, std::string const& request, bool committed);
  // Refused before anything happened: the same promise as "not committed".
  void refused(std::uint64_t user, std::string const& request);
  // Likewise, and the others' purchases must account for the copies.
  void sold_out(std::uint64_t user, std::string const& request);
  // The connection was lost, or the server did not know: either is right, but it must stay so.
  void unanswered(std::uint64_t user, std::string const& request);
  // Looked up later by its request id.
  void looked_up(std::uint64_t user, std::string const& request, std::optional<Order> const&);

  void saw_row(std::uint64_t user, Row const&, Floor const& before);
  // The user's own newest orders, newest first; `limit`: the most that the server shows.
  void saw_orders(std::uint64_t user, std::vector<Order> const&, std::size_t limit);
  void malformed(std::uint64_t user, std::string const& what);

  // The state after the last user, at rest.
  void finish(std::vector<Row> const& rows, std::vector<Order> const& orders);

  Finding finding() const;

 private:
  enum class Fate { open, acknowledged, denied, refused, unknown, unknown_committed };
  struct Placed {
    Purchase wish;
    Fate fate = Fate::open;
    std::uint64_t number = 0;  // once an answer gave one
  };

  void wrong(Wrong, std::uint64_t user, std::string text);
  void lost_update(Wrong, std::uint64_t user, std::string text);
  void check_row(std::uint64_t user, Row const&);
  // Whether the order is whole and is what was asked for. `placed` NULL: nobody asked.
  bool check_order(std::uint64_t user, Order const&, Placed* placed);
  Placed* placed(std::string const& request);

  mutable std::mutex lock_;
  std::vector<Row> start_;
  std::map<std::string, Order> earlier_;          // orders of begin(), by request id
  std::map<std::string, Placed> placed_;          // by request id
  std::map<std::uint64_t, std::string> numbers_;  // which request each order number went to
  std::map<std::uint64_t, std::uint64_t> acknowledged_by_user_;
  Floor versions_;
  std::vector<std::int64_t> wanted_;  // copies of each book in all purchases sent and not refused
  Finding finding_;
};

}  // namespace bookstore::load
