// A guest virtual address: a type of its own, so that a guest's number is never mistaken for a host
// pointer.
#pragma once

#include <compare>
#include <cstdint>

namespace vmm {

struct GuestAddr {
  uint64_t value = 0;

  constexpr GuestAddr() = default;
  constexpr explicit GuestAddr(uint64_t v) : value(v) {}
  constexpr auto operator<=>(GuestAddr const&) const = default;
  constexpr GuestAddr operator+(uint64_t n) const { return GuestAddr(value + n); }
  constexpr GuestAddr operator-(uint64_t n) const { return GuestAddr(value - n); }
  constexpr uint64_t operator-(GuestAddr o) const { return value - o.value; }
  constexpr explicit operator bool() const { return value != 0; }
};

struct GuestRange {
  GuestAddr start;
  uint64_t size = 0;
  [[nodiscard]] constexpr GuestAddr end() const { return start + size; }
};

inline constexpr uint64_t kPageSize = 4096;
constexpr uint64_t page_down(uint64_t v) {
  return v & ~(kPageSize - 1);
}
constexpr uint64_t page_up(uint64_t v) {
  return (v + kPageSize - 1) & ~(kPageSize - 1);
}

}  // namespace vmm
