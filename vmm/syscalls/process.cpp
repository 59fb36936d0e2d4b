#include "vmm/syscalls/families.hpp"

namespace vmm {

std::span<SyscallRow const> process_rows() {
  static std::vector<SyscallRow> const rows = join_rows({identity_rows(), limit_rows(), prctl_rows(), denied_rows()});
  return rows;
}

}  // namespace vmm
