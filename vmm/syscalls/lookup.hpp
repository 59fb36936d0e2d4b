// A path argument looked up, as the *at calls take it.
#pragma once

#include "vmm/syscalls/path.hpp"

namespace vmm {

struct Lookup : Target {
  // The host fd to act on; -1 for an object of the procfs view.
  [[nodiscard]] int host_fd() const { return fd ? fd.get() : file ? file->host_fd() : -1; }
  [[nodiscard]] bool unchangeable() const { return node.has_value() || read_only; }
};

// `empty_ok` (AT_EMPTY_PATH): an empty path, or no path at all, names the fd itself.
Lookup look_up(Thread& thread, int dirfd, GuestAddr path, bool follow, bool empty_ok);

}  // namespace vmm
