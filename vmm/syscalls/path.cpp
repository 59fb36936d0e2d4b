#include "vmm/syscalls/path.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

namespace vmm {

namespace {

constexpr uint64_t kProcRootInode = 1;
constexpr int kMaxLinks = 40;

int64_t open_path(int dirfd, char const* path, uint64_t flags, uint64_t resolve_flags) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC | flags;
  how.resolve = resolve_flags;
  return host(SYS_openat2, dirfd, path, &how, sizeof how);
}

class Walker {
 public:
  Walker(Thread& thread, bool follow) : thread_(thread), follow_(follow) {}

  Target run(int dirfd, std::string const& path) {
    Target result;
    result.error = start(dirfd, path);
    if (result.error == 0) push(path);
    while (result.error == 0 && !todo_.empty()) {
      std::string const name = std::move(todo_.back());
      todo_.pop_back();
      result.error = node_ ? step_node(name) : step_host(name);
      if (result.error == -ENOENT && todo_.empty() && !node_ && cur_) {
        result.last = name;
        result.parent = std::move(cur_);
      }
    }
    if (result.error == 0 && must_be_directory_ && !is_directory()) result.error = -ENOTDIR;
    if (result.error == 0) {
      if (node_) {
        result.node = std::move(node_);
      } else {
        result.fd = std::move(cur_);
        result.read_only = in_proc_ || (file_ && file_->read_only);
        result.file = std::move(file_);
      }
    }
    return result;
  }

 private:
  int64_t start(int dirfd, std::string const& path) {
    if (path[0] == '/') return go_to("/");
    if (dirfd == AT_FDCWD) return go_to(".");
    FileRef const file = thread_.fds().get(dirfd);
    if (!file) return -EBADF;
    return enter(file);
  }

  // Stands in an absolute place of the host.
  int64_t go_to(char const* path) {
    int64_t const fd = open_path(AT_FDCWD, path, O_DIRECTORY, 0);
    if (fd < 0) return fd;
    cur_.reset(static_cast<int>(fd));
    node_.reset();
    file_.reset();
    in_proc_ = false;
    return look(/*came_from_proc=*/false);
  }

  int64_t enter(FileRef const& file) {
    if (auto* const virtual_dir = dynamic_cast<ProcDirectory*>(file.get())) {
      node_ = virtual_dir->node();
      return 0;
    }
    int64_t const fd = host(SYS_fcntl, file->host_fd(), F_DUPFD_CLOEXEC, 3);
    if (fd < 0) return fd;
    cur_.reset(static_cast<int>(fd));
    node_.reset();
    file_ = file;
    // It was opened through this look-up, so it is no directory of a process.
    return look(/*came_from_proc=*/true);
  }

  // Finds out where cur_ is. procfs may be entered by its root only: a bind mount of a part of it
  // cannot be told from a process's directory.
  int64_t look(bool came_from_proc) {
    at_proc_root_ = false;
    in_proc_ = on_procfs(cur_.get());
    if (!in_proc_) return 0;
    struct stat st {};
    if (fstat(cur_.get(), &st) != 0) return -errno;
    at_proc_root_ = S_ISDIR(st.st_mode) && st.st_ino == kProcRootInode;
    return at_proc_root_ || came_from_proc ? 0 : -EACCES;
  }

  void push(std::string const& path) {
    if (todo_.empty() &&
        (path.back() == '/' || path == "." || path == ".." || path.ends_with("/.") || path.ends_with("/.."))) {
      must_be_directory_ = true;
    }
    size_t end = path.size();
    while (end > 0) {
      size_t const slash = path.rfind('/', end - 1);
      size_t const from = slash == std::string::npos ? 0 : slash + 1;
      if (from < end && !(end - from == 1 && path[from] == '.')) {
        todo_.push_back(path.substr(from, end - from));
      }
      if (slash == std::string::npos) break;
      end = slash;
    }
  }

  [[nodiscard]] bool follow_now() const { return follow_ || !todo_.empty() || must_be_directory_; }

  int64_t follow_text(std::string const& target) {
    if (++links_ > kMaxLinks) return -ELOOP;
    if (target.empty()) return -ENOENT;
    if (target[0] == '/') {
      int64_t const error = go_to("/");
      if (error != 0) return error;
    }
    push(target);
    return 0;
  }

  int64_t step_node(std::string const& name) {
    file_.reset();
    if (name == "..") {
      if (node_->parts.empty()) return go_to("/proc");
      node_->parts.pop_back();
      return 0;
    }
    ProcNode child = *node_;
    if (proc_kind(thread_, child) != ProcKind::kDirectory) return -ENOTDIR;
    child.parts.push_back(name);
    switch (proc_kind(thread_, child)) {
      case ProcKind::kMissing:
        return -ENOENT;
      case ProcKind::kDenied:
        return -EACCES;
      case ProcKind::kDirectory:
      case ProcKind::kText:
        node_ = std::move(child);
        return 0;
      case ProcKind::kHostFile: {
        int64_t const fd = open_path(AT_FDCWD, proc_host_path(child).c_str(), O_NOFOLLOW, RESOLVE_NO_MAGICLINKS);
        if (fd < 0) return fd;
        UniqueFd owned(fd);
        struct stat st {};
        if (fstat(owned.get(), &st) != 0) return -errno;
        if (!S_ISREG(st.st_mode)) return -EACCES;
        node_.reset();
        cur_ = std::move(owned);
        in_proc_ = true;
        at_proc_root_ = false;
        return 0;
      }
      case ProcKind::kLink:
        break;
    }
    if (!follow_now()) {
      node_ = std::move(child);
      return 0;
    }
    if (++links_ > kMaxLinks) return -ELOOP;
    if (FileRef const file = proc_fd_target(thread_, child)) return enter(file);
    if (child.parts.back() == "cwd") return go_to(".");
    return follow_text(proc_link(thread_, child));
  }

  int64_t step_host(std::string const& name) {
    file_.reset();
    if (at_proc_root_ && name != "..") {
      ProcNode own;
      bool other = false;
      if (proc_own_directory(thread_, name, own, other)) {
        bool const link = name == "self" || name == "thread-self";
        node_ = link && !follow_now() ? ProcNode{{"@" + name}} : std::move(own);
        return 0;
      }
      if (other) return -ENOENT;
      if (proc_root_denied(name)) return -EACCES;
    }
    int64_t const fd = open_path(cur_.get(), name.c_str(), O_NOFOLLOW, 0);
    if (fd < 0) return fd;
    UniqueFd next(fd);
    struct stat st {};
    if (fstat(next.get(), &st) != 0) return -errno;
    if (S_ISLNK(st.st_mode) && follow_now()) {
      char text[PATH_MAX];
      int64_t const length = host(SYS_readlinkat, next.get(), "", text, sizeof text);
      if (length < 0) return length;
      return follow_text(std::string(text, static_cast<size_t>(length)));
    }
    bool const was_in_proc = in_proc_;
    cur_ = std::move(next);
    return look(was_in_proc);
  }

  [[nodiscard]] bool is_directory() {
    if (node_) return proc_kind(thread_, *node_) == ProcKind::kDirectory;
    struct stat st {};
    return fstat(cur_.get(), &st) == 0 && S_ISDIR(st.st_mode);
  }

  Thread& thread_;
  bool follow_;
  std::vector<std::string> todo_;  // the next component last
  UniqueFd cur_;
  std::optional<ProcNode> node_;
  FileRef file_;
  bool in_proc_ = false, at_proc_root_ = false, must_be_directory_ = false;
  int links_ = 0;
};

}  // namespace

bool on_procfs(int host_fd) {
  struct statfs fs {};
  return fstatfs(host_fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

int64_t check_device(struct stat const& st) {
  if (S_ISBLK(st.st_mode)) return -EACCES;
  if (!S_ISCHR(st.st_mode)) return 0;
  unsigned const major = major(st.st_rdev);
  unsigned const minor = minor(st.st_rdev);
  bool const memory = major == 1 && (minor == 3 || minor == 5 || minor == 7 || minor == 8 ||
                                     minor == 9);                      // null zero full random urandom
  bool const terminal = (major == 5 && (minor == 0 || minor == 2)) ||  // tty ptmx
                        (major >= 136 && major <= 143);                // pts
  return memory || terminal ? 0 : -EACCES;
}

int64_t read_path(Thread& thread, GuestAddr from, std::string& path) {
  return -thread.memory().read_string(from, path, PATH_MAX);
}

Target resolve(Thread& thread, int dirfd, std::string const& path, bool follow) {
  Target result;
  if (path.empty()) {
    result.error = -ENOENT;
    return result;
  }
  int at = AT_FDCWD;
  FileRef dir;
  bool walk = false;
  if (path[0] != '/' && dirfd != AT_FDCWD) {
    dir = thread.fds().get(dirfd);
    if (!dir) {
      result.error = -EBADF;
      return result;
    }
    at = dir->host_fd();
    walk = dynamic_cast<ProcDirectory*>(dir.get()) != nullptr;
  }
  if (!walk) {
    uint64_t const flags = follow ? 0 : O_NOFOLLOW;
    int64_t const fd = open_path(at, path.c_str(), flags, RESOLVE_NO_MAGICLINKS);
    if (fd >= 0) {
      result.fd = UniqueFd(fd);
      if (!on_procfs(result.fd.get())) return result;
    } else if (fd == -ENOENT) {
      // A name that is missing for the monitor may exist in the guest's view of procfs. Only a way
      // through a link or a mount can lead there.
      int64_t const plain = open_path(at, path.c_str(), flags, RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
      if (plain >= 0) UniqueFd(plain).reset();
      if (plain == -ENOENT && !(at != AT_FDCWD && dir->read_only)) {
        result.error = -ENOENT;
        return result;
      }
    } else if (fd != -ELOOP && fd != -EACCES && fd != -ENOTDIR) {
      result.error = fd;
      return result;
    }
  }
  return Walker(thread, follow).run(dirfd, path);
}

Parent resolve_parent(Thread& thread, int dirfd, std::string const& path) {
  Parent result;
  size_t const end = path.find_last_not_of('/');
  if (end == std::string::npos) {
    result.error = path.empty() ? -ENOENT : -EEXIST;
    return result;
  }
  size_t const slash = path.rfind('/', end);
  result.last = slash == std::string::npos ? path : path.substr(slash + 1);
  std::string const directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  Target target = resolve(thread, dirfd, directory, true);
  if (target.error != 0) {
    result.error = target.error;
  } else if (target.node || target.read_only) {
    result.error = -EACCES;
  } else {
    result.fd = std::move(target.fd);
  }
  return result;
}

}  // namespace vmm
