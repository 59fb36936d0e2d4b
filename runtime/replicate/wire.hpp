// How values lie in a message: little-endian, fixed widths, strings and lists behind their count. One description of a
// message's fields (`each(codec)`) serves both directions.
//
// Reading never trusts: what runs over the end, a count that the rest cannot hold, or bytes left over make it fail.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace vmsrs::runtime::replicate {

using Bytes = std::vector<std::byte>;

class Writer {
 public:
  static constexpr bool kReads = false;
  explicit Writer(Bytes& to) : to_(to) {}
  template <class T>
  void operator()(T const& value) {
    if constexpr (std::is_same_v<T, bool>) {
      to_.push_back(std::byte{value});
    } else if constexpr (std::is_integral_v<T>) {
      for (size_t i = 0; i < sizeof(T); ++i) {
        to_.push_back(static_cast<std::byte>(static_cast<std::make_unsigned_t<T>>(value) >> (8 * i)));
      }
    } else {
      const_cast<T&>(value).each(*this);
    }
  }
  void operator()(std::string const& text) {
    (*this)(static_cast<uint32_t>(text.size()));
    raw(std::as_bytes(std::span(text)));
  }
  template <size_t N>
  void operator()(std::array<std::byte, N> const& bytes) {
    raw(bytes);
  }
  template <class T>
  void operator()(std::vector<T> const& list) {
    (*this)(static_cast<uint32_t>(list.size()));
    if constexpr (std::is_same_v<T, std::byte>) {
      raw(list);
    } else {
      for (T const& item : list) (*this)(item);
    }
  }
  void raw(std::span<std::byte const> bytes) { to_.insert(to_.end(), bytes.begin(), bytes.end()); }

 private:
  Bytes& to_;
};

class Reader {
 public:
  static constexpr bool kReads = true;
  explicit Reader(std::span<std::byte const> from) : from_(from) {}
  template <class T>
  void operator()(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      uint8_t byte = 0;
      (*this)(byte);
      if (byte > 1) good_ = false;
      value = byte == 1;
    } else if constexpr (std::is_integral_v<T>) {
      auto const bytes = take(sizeof(T));
      std::make_unsigned_t<T> n = 0;
      for (size_t i = 0; i < bytes.size(); ++i) {
        n = static_cast<std::make_unsigned_t<T>>(n | (static_cast<std::make_unsigned_t<T>>(bytes[i]) << (8 * i)));
      }
      value = static_cast<T>(n);
    } else {
      value.each(*this);
    }
  }
  void operator()(std::string& text) {
    auto const bytes = take(count(1));
    text.assign(reinterpret_cast<char const*>(bytes.data()), bytes.size());
  }
  template <size_t N>
  void operator()(std::array<std::byte, N>& to) {
    auto const bytes = take(N);
    if (!bytes.empty()) std::memcpy(to.data(), bytes.data(), N);
  }
  template <class T>
  void operator()(std::vector<T>& list) {
    list.clear();
    size_t const n = count(1);
    if constexpr (std::is_same_v<T, std::byte>) {
      auto const bytes = take(n);
      list.assign(bytes.begin(), bytes.end());
    } else {
      for (size_t i = 0; i < n && good_; ++i) (*this)(list.emplace_back());
    }
  }
  // Everything was there, and nothing more.
  [[nodiscard]] bool finished() const { return good_ && from_.empty(); }
  void refuse() { good_ = false; }

 private:
  std::span<std::byte const> take(size_t n) {
    if (n > from_.size()) good_ = false;
    if (!good_) return {};
    auto const part = from_.first(n);
    from_ = from_.subspan(n);
    return part;
  }
  size_t count(size_t least_each) {
    uint32_t n = 0;
    (*this)(n);
    if (n > from_.size() / least_each) good_ = false;
    return good_ ? n : 0;
  }

  std::span<std::byte const> from_;
  bool good_ = true;
};

}  // namespace vmsrs::runtime::replicate
