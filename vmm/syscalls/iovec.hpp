// A guest's iovec array, copied in once; the checks are made on the copy, and the host call gets
// the copy, so that a thread that flips the array meanwhile changes nothing.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <vector>

#include "vmm/address_space.hpp"

namespace vmm {

class Thread;

class IovecCopy {
 public:
  // `access` is what the host call does to the buffers; kWrite announces them. 0 or -errno.
  int64_t load(Thread& thread, GuestAddr array, uint64_t count, Access access);
  [[nodiscard]] iovec* data() noexcept { return large_.empty() ? small_.data() : large_.data(); }
  [[nodiscard]] uint64_t size() const noexcept { return count_; }
  [[nodiscard]] uint64_t bytes() const noexcept { return bytes_; }

 private:
  std::array<iovec, 8> small_{};
  std::vector<iovec> large_;
  uint64_t count_ = 0, bytes_ = 0;
};

}  // namespace vmm
