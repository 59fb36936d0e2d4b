// The guest's view of its own directory in procfs. The host's directory of that name describes the
// monitor (its maps, its fds, its memory), so nothing of it is ever handed out: what is here is
// made from the guest's state, a few harmless host files excepted, and the rest is denied.
//
// One guest per monitor; every function may be called by any guest thread.
#pragma once

#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "vmm/fd_table.hpp"

namespace vmm {

class Thread;

// A place below /proc/<pid>: {} is the directory itself, {"fd", "3"} a link in it. The two links in
// procfs's root, self and thread-self, are {"@self"} and {"@thread-self"}.
struct ProcNode {
  std::vector<std::string> parts;
};

enum class ProcKind {
  kMissing,
  kDenied,
  kDirectory,
  kText,      // made here: proc_text()
  kHostFile,  // a host file that says nothing about the monitor: proc_host_path()
  kLink       // proc_link()
};

ProcKind proc_kind(Thread& thread, ProcNode const& node);
std::string proc_text(Thread& thread, ProcNode const& node);
std::string proc_host_path(ProcNode const& node);
// What readlink() says; empty: the link does not exist (any more).
std::string proc_link(Thread& thread, ProcNode const& node);
// The open file behind {"fd", N} or {"task", tid, "fd", N}; null for any other node.
FileRef proc_fd_target(Thread& thread, ProcNode const& node);
struct ProcEntry {
  std::string name;
  unsigned char type;  // DT_*
};
std::vector<ProcEntry> proc_entries(Thread& thread, ProcNode const& node);
// Whether `name` in procfs's root is the guest's own directory; fills the node. `other`: it is some
// other process's.
bool proc_own_directory(Thread& thread, std::string const& name, ProcNode& node, bool& other);
// Files in procfs's root that show host memory or drive the host.
bool proc_root_denied(std::string const& name);

// An open directory of this view. Its host fd is procfs's root as O_PATH: good for fstat only.
class ProcDirectory : public OpenFile {
 public:
  ProcDirectory(int host_fd, std::string path, ProcNode node)
      : OpenFile(Kind::kDirectory, host_fd, std::move(path)), node_(std::move(node)) {}
  [[nodiscard]] ProcNode const& node() const noexcept { return node_; }
  // getdents64 into `to`, a fresh list at each start: bytes written, 0 at the end, -EINVAL if not even one record fits.
  int64_t read(Thread& thread, void* to, size_t size);
  int64_t seek(int64_t offset, int whence);

 private:
  ProcNode node_;
  std::mutex mutex_;
  std::vector<ProcEntry> entries_;
  size_t at_ = 0;
};

// Appends one linux_dirent64; false: no room.
bool put_dirent(std::byte* to, size_t size, size_t& used, std::string const& name, unsigned char type, uint64_t inode,
                int64_t next);

}  // namespace vmm
