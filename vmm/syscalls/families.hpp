// The parts of a family that is spread over several files; file_rows() and its like join them.
#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include "vmm/syscall.hpp"

namespace vmm {

std::span<SyscallRow const> open_rows();        // open close-by-path family, getdents, readlink
std::span<SyscallRow const> stat_rows();        // stat, access, statfs
std::span<SyscallRow const> file_io_rows();     // read write lseek sync
std::span<SyscallRow const> file_copy_rows();   // sendfile splice tee copy_file_range
std::span<SyscallRow const> name_rows();        // mkdir unlink rename link cwd
std::span<SyscallRow const> attribute_rows();   // chmod chown times truncate xattr inotify
std::span<SyscallRow const> descriptor_rows();  // dup close pipe eventfd timerfd memfd
std::span<SyscallRow const> fcntl_rows();       // fcntl flock
std::span<SyscallRow const> ioctl_rows();
std::span<SyscallRow const> signalfd_rows();
std::span<SyscallRow const> socket_call_rows();     // socket bind connect accept
std::span<SyscallRow const> socket_message_rows();  // sendmsg recvmsg and the m forms
std::span<SyscallRow const> socket_option_rows();
std::span<SyscallRow const> wait_rows();  // poll select
std::span<SyscallRow const> epoll_rows();
std::span<SyscallRow const> identity_rows();  // pids, users, sessions
std::span<SyscallRow const> limit_rows();     // rlimits, usage, uname, random
std::span<SyscallRow const> prctl_rows();
std::span<SyscallRow const> denied_rows();

inline std::vector<SyscallRow> join_rows(std::initializer_list<std::span<SyscallRow const>> parts) {
  std::vector<SyscallRow> rows;
  for (auto const part : parts) rows.insert(rows.end(), part.begin(), part.end());
  return rows;
}

}  // namespace vmm
