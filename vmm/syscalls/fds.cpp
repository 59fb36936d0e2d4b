#include "vmm/syscalls/families.hpp"

namespace vmm {

std::span<SyscallRow const> fd_rows() {
  static std::vector<SyscallRow> const rows =
      join_rows({descriptor_rows(), fcntl_rows(), ioctl_rows(), signalfd_rows()});
  return rows;
}

}  // namespace vmm
