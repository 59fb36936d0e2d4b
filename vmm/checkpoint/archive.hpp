// State as bytes: one visitor writes and reads, so that the two cannot differ. Little-endian, as x86 has it; a number
// is its bytes, text and lists are preceded by their length.
//
// ArchiveReader believes nothing: what is longer than the bytes at hand, or than its limit, makes it fail, and from
// then on everything reads as zero. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace vmm {

template <class T>
concept ArchiveWord = std::is_arithmetic_v<T> || std::is_enum_v<T>;

class ArchiveWriter {
 public:
  static constexpr bool kReads = false;
  void raw(void const* from, uint64_t size) {
    auto const* bytes = static_cast<std::byte const*>(from);
    bytes_.insert(bytes_.end(), bytes, bytes + size);
  }
  template <ArchiveWord T>
  void word(T& value) {
    raw(&value, sizeof value);
  }
  void count(uint64_t& n, uint64_t /*least bytes of each*/) { word(n); }
  [[nodiscard]] bool ok() const noexcept { return true; }
  void fail() noexcept {}
  [[nodiscard]] std::vector<std::byte>& bytes() noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

class ArchiveReader {
 public:
  static constexpr bool kReads = true;
  explicit ArchiveReader(std::span<std::byte const> bytes) : bytes_(bytes) {}
  void raw(void* to, uint64_t size) {
    if (size > bytes_.size()) fail();
    if (!ok_) {
      std::memset(to, 0, size);
      return;
    }
    if (size != 0) std::memcpy(to, bytes_.data(), size);
    bytes_ = bytes_.subspan(size);
  }
  template <ArchiveWord T>
  void word(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      uint8_t byte = 0;
      raw(&byte, 1);
      value = byte != 0;
    } else {
      raw(&value, sizeof value);
    }
  }
  void count(uint64_t& n, uint64_t each) {
    word(n);
    if (n > bytes_.size() / std::max<uint64_t>(each, 1)) fail();
    if (!ok_) n = 0;
  }
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  void fail() noexcept { ok_ = false; }
  [[nodiscard]] uint64_t left() const noexcept { return bytes_.size(); }

 private:
  std::span<std::byte const> bytes_;
  bool ok_ = true;
};

template <class A, ArchiveWord T>
void visit(A& a, T& value) {
  a.word(value);
}

template <class A>
void visit(A& a, std::string& text) {
  uint64_t size = text.size();
  a.count(size, 1);
  if constexpr (A::kReads) text.resize(size);
  a.raw(text.data(), size);
}

template <class A>
void visit(A& a, std::vector<std::byte>& bytes) {
  uint64_t size = bytes.size();
  a.count(size, 1);
  if constexpr (A::kReads) bytes.resize(size);
  a.raw(bytes.data(), size);
}

template <class A, class T>
void visit(A& a, std::vector<T>& list) {
  uint64_t size = list.size();
  a.count(size, 1);
  if constexpr (A::kReads) list.resize(size);
  for (T& item : list) visit(a, item);
}

template <class A, class... T>
void visit_all(A& a, T&... values) {
  (visit(a, values), ...);
}

// A structure without pointers, as its bytes.
template <class A, class T>
void visit_plain(A& a, T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  a.raw(&value, sizeof value);
}

}  // namespace vmm
