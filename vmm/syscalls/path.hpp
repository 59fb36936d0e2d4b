// Path look-up for the guest. The kernel resolves a path in one step while it stays clear of
// procfs's magic links (openat2 with RESOLVE_NO_MAGICLINKS, O_PATH: nothing is opened for access
// before it has been looked at). What ends in procfs or meets a magic link is walked component by
// component here, the process's own directory being the view of procfs.hpp. The decision is made on
// the opened object (its file system), never on the string.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>

#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/procfs.hpp"

namespace vmm {

struct Target {
  int64_t error = 0;             // -errno; then, for -ENOENT of the last component, `parent` and `last` are set
  UniqueFd fd;                   // the object: an O_PATH fd, or a duplicate of one of the guest's own files
  std::optional<ProcNode> node;  // in place of fd: an object of the procfs view
  bool read_only = false;        // the object is on the host's procfs
  FileRef file;                  // reached through /proc/self/fd/N: that open file
  UniqueFd parent;
  std::string last;
};

// dirfd is virtual or AT_FDCWD. An empty path is -ENOENT.
Target resolve(Thread& thread, int dirfd, std::string const& path, bool follow);

// The directory in which a name is to be made or removed.
struct Parent {
  int64_t error = 0;
  UniqueFd fd;       // O_PATH
  std::string last;  // one component, perhaps with trailing slashes
};
Parent resolve_parent(Thread& thread, int dirfd, std::string const& path);

// The path argument: 0, -EFAULT or -ENAMETOOLONG.
int64_t read_path(Thread& thread, GuestAddr from, std::string& path);

// 0, or why the guest may not have this device opened (-EACCES). Only terminals and the data
// sources of major 1 are harmless.
int64_t check_device(struct stat const& st);
[[nodiscard]] bool on_procfs(int host_fd);

}  // namespace vmm
