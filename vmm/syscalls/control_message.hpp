// Ancillary data of sendmsg and recvmsg: fds are translated both ways, process ids virtualised.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <vector>

#include "vmm/fd_table.hpp"

namespace vmm {

class Thread;

inline constexpr size_t kMaxControl = 65536;

// Guest's control data (already copied in) → host's. Holds the files until the call is over.
// 0, -EBADF, -EINVAL.
int64_t control_to_host(Thread& thread, std::vector<std::byte>& control, std::vector<FileRef>& files);
// Host's control data → guest's, in place: the fds received are taken over and installed. What
// cannot be installed is closed and MSG_CTRUNC set in `flags`. `installed`: the new numbers, for an
// undo.
void control_to_guest(Thread& thread, std::vector<std::byte>& control, bool cloexec, int& flags,
                      std::vector<int>& installed);

}  // namespace vmm
