#include "vmm/syscalls/families.hpp"

namespace vmm {

std::span<SyscallRow const> file_rows() {
  static std::vector<SyscallRow> const rows =
      join_rows({open_rows(), stat_rows(), file_io_rows(), file_copy_rows(), name_rows(), attribute_rows()});
  return rows;
}

}  // namespace vmm
