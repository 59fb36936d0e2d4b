#include "vmm/syscalls/iovec.hpp"

#include <climits>

#include "vmm/syscalls/host.hpp"

namespace vmm {

int64_t IovecCopy::load(Thread& thread, GuestAddr array, uint64_t count, Access access) {
  constexpr uint64_t kMaxCount = 0x7ffff000;  // the kernel's MAX_RW_COUNT
  if (count > UIO_MAXIOV) return -EINVAL;
  if (count > small_.size()) large_.resize(count);
  count_ = count;
  bytes_ = 0;
  AddressSpace& memory = thread.memory();
  if (count != 0 && !memory.read(array, data(), count * sizeof(iovec))) return -EFAULT;
  for (uint64_t i = 0; i < count; ++i) {
    iovec& v = data()[i];
    if (v.iov_len > SSIZE_MAX) return -EINVAL;
    if (v.iov_len > kMaxCount - bytes_) v.iov_len = kMaxCount - bytes_;
    GuestAddr const base(reinterpret_cast<uint64_t>(v.iov_base));
    if (v.iov_len == 0) {
      v.iov_base = nullptr;
      continue;
    }
    void* const host = memory.buffer(base, v.iov_len, access);
    if (host == nullptr) return -EFAULT;
    if (access == Access::kWrite) thread.announce_out({base, v.iov_len});
    v.iov_base = host;
    bytes_ += v.iov_len;
  }
  return 0;
}

}  // namespace vmm
