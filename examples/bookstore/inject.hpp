// Faults on demand: which kind, at which point of a request. Only a server started with --inject
// accepts them; without one, Fault::strike is a comparison.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "examples/bookstore/kinds.hpp"

namespace bookstore {

// Purchases that stop on the way until another purchase of the same book came by. All members may
// be called by any thread. Plain memory: it is the test's instrument, not the shop's data.
class Pauses {
 public:
  explicit Pauses(std::size_t books) : begun_(books), done_(books), waiting_(books) {}

  void purchase_begun(std::uint64_t book) { ++begun_[book]; }
  void purchase_done(std::uint64_t book) { ++done_[book]; }

  // Returns when another purchase of the book was completed, or after `ms`.
  void wait(std::uint64_t book, unsigned ms);

  struct Outcome {
    std::uint64_t book, others_begun, others_done, waited_ms;
  };
  std::vector<std::uint64_t> waiting() const;  // books on which a purchase is paused now
  std::vector<Outcome> outcomes() const;       // of the first kOutcomes pauses that ended

 private:
  static constexpr std::size_t kOutcomes = 64;
  std::vector<std::atomic<std::uint64_t>> begun_, done_, waiting_;
  std::array<Outcome, kOutcomes> outcomes_{};
  std::array<std::atomic<bool>, kOutcomes> written_{};
  std::atomic<std::size_t> next_{0};
};

struct Fault {
  Kind kind = Kind::none;
  Point at = Point::before;
  unsigned wait_ms = 0;  // first pause this long for another purchase of the book
  std::uint64_t book = 0;
  Pauses* pauses = nullptr;

  void strike(Point point) const {
    if (point == at && (kind != Kind::none || wait_ms != 0)) hit();
  }
  // The kinds that need a deadline to be noticed.
  bool hangs() const { return kind == Kind::deadline || kind == Kind::sleep || kind == Kind::deadlock; }

 private:
  void hit() const;
};

}  // namespace bookstore
