// What epochs add up to: the state of a guest, ready to be restored.
//
// apply() takes a full epoch, then each later one in order; an epoch is applied wholly or not at all. A stream that is
// torn, damaged, of another version or out of order is refused with the reason, and the image is as before.
// Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "vmm/error.hpp"

namespace vmsrs::checkpoint {

class Image {
 public:
  Image();
  ~Image();
  Image(Image&&) noexcept;
  Image& operator=(Image&&) noexcept;

  // One epoch's stream (Epoch::bytes).
  vmm::Result<void> apply(std::span<std::byte const> stream);
  // A file that holds one or more epochs' streams, one after the other.
  static vmm::Result<Image> from_file(std::string const& path);

  [[nodiscard]] uint64_t number() const noexcept;  // of the last epoch applied; 0: none
  [[nodiscard]] uint64_t pages() const noexcept;   // held
  // The guest's CLOCK_MONOTONIC at the last epoch's boundary: on the boot that it was taken on, the host's too.
  [[nodiscard]] int64_t taken_at_ns() const noexcept;
  // The program that it is, for messages.
  [[nodiscard]] std::string program() const;

  struct Content;
  [[nodiscard]] Content const& content() const noexcept { return *content_; }
  [[nodiscard]] Content& content() noexcept { return *content_; }

 private:
  std::unique_ptr<Content> content_;
};

}  // namespace vmsrs::checkpoint
