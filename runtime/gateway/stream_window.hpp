// The part of a byte stream that is still needed, by its offsets in the stream: from base() to end().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vmsrs::runtime::gateway {

class StreamWindow {
 public:
  [[nodiscard]] uint64_t base() const { return base_; }
  [[nodiscard]] uint64_t end() const { return base_ + bytes_.size() - start_; }
  [[nodiscard]] size_t size() const { return bytes_.size() - start_; }
  void append(std::span<std::byte const> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  // Bytes before `offset` are not needed any more.
  void forget_before(uint64_t offset) {
    if (offset <= base_) return;
    uint64_t const n = std::min<uint64_t>(offset - base_, size());
    start_ += n;
    base_ += n;
    if (start_ == bytes_.size() || start_ > kSlack) {
      bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(start_));
      start_ = 0;
    }
  }
  // Bytes from `offset` on were never there.
  void cut(uint64_t offset) {
    if (offset >= end()) return;
    bytes_.resize(start_ + (offset > base_ ? offset - base_ : 0));
  }
  // From `offset`, which is not before base(), `most` bytes at most.
  [[nodiscard]] std::span<std::byte const> from(uint64_t offset, size_t most) const {
    if (offset >= end()) return {};
    size_t const at = start_ + (offset - base_);
    return std::span(bytes_).subspan(at, std::min(most, bytes_.size() - at));
  }

 private:
  static constexpr size_t kSlack = 256 * 1024;
  uint64_t base_ = 0;
  size_t start_ = 0;  // of what is needed, in bytes_
  std::vector<std::byte> bytes_;
};

}  // namespace vmsrs::runtime::gateway
