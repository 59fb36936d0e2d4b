// open and its kind, getdents64, readlink.
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "vmm/file_journal.hpp"
#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/lookup.hpp"

namespace vmm {

namespace {

// What openat() takes; it ignores other bits, openat2() refuses them.
constexpr uint64_t kOpenFlags = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_DSYNC |
                                O_SYNC | O_DIRECT | O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_PATH |
                                O_TMPFILE;
constexpr uint64_t kTmpFile = O_TMPFILE & ~O_DIRECTORY;

int64_t install(Thread& thread, UniqueFd fd, struct stat const& st, uint64_t flags, bool read_only) {
  OpenFile::Kind const kind = S_ISREG(st.st_mode)    ? OpenFile::Kind::kFile
                              : S_ISDIR(st.st_mode)  ? OpenFile::Kind::kDirectory
                              : S_ISFIFO(st.st_mode) ? OpenFile::Kind::kPipe
                                                     : OpenFile::Kind::kOther;
  FileRef const file = adopt_host_fd(fd.release(), kind);
  file->read_only = read_only;
  return thread.fds().install(file, (flags & O_CLOEXEC) != 0);
}

int64_t open_node(Thread& thread, ProcNode const& node, uint64_t flags) {
  ProcKind const kind = proc_kind(thread, node);
  if (kind == ProcKind::kLink) return -ELOOP;  // O_NOFOLLOW
  bool const directory = kind == ProcKind::kDirectory;
  if ((flags & O_DIRECTORY) != 0 && !directory) return -ENOTDIR;
  if ((flags & O_PATH) == 0 && (flags & O_ACCMODE) != O_RDONLY) {
    return directory ? -EISDIR : -EACCES;
  }
  std::string name = "/proc/" + std::to_string(Process::pid());
  for (std::string const& part : node.parts) name += "/" + part;
  if (directory) {
    int64_t const fd = host(SYS_openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fd;
    auto file = std::make_shared<ProcDirectory>(move_fd_high(static_cast<int>(fd)), std::move(name), node);
    return thread.fds().install(std::move(file), (flags & O_CLOEXEC) != 0);
  }
  std::string const text = proc_text(thread, node);
  UniqueFd memory(host(SYS_memfd_create, "proc", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) return -ENOMEM;
  size_t done = 0;
  while (done < text.size()) {
    int64_t const n = host(SYS_write, memory.get(), text.data() + done, text.size() - done);
    if (n <= 0) return n < 0 ? n : -EIO;
    done += static_cast<size_t>(n);
  }
  host(SYS_lseek, memory.get(), 0, SEEK_SET);
  host(SYS_fcntl, memory.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  FileRef const file = adopt_host_fd(memory.release(), OpenFile::Kind::kSynthetic, std::move(name));
  file->read_only = true;
  return thread.fds().install(file, (flags & O_CLOEXEC) != 0);
}

// The object was looked at through `found`, which pins it: opening it again by that fd cannot reach
// another one.
int64_t reopen(Thread& thread, Lookup found, uint64_t flags) {
  struct stat st {};
  if (fstat(found.host_fd(), &st) != 0) return -errno;
  bool const path_only = (flags & O_PATH) != 0;
  if ((flags & O_DIRECTORY) != 0 && !S_ISDIR(st.st_mode)) return -ENOTDIR;
  if (path_only && found.fd && !found.file) {
    return install(thread, std::move(found.fd), st, flags, found.read_only);
  }
  if (S_ISLNK(st.st_mode)) return -ELOOP;
  if (int64_t const error = check_device(st); error != 0) return error;
  if (found.read_only && !path_only && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0)) {
    return -EACCES;
  }
  if ((flags & O_CREAT) != 0 && S_ISDIR(st.st_mode)) return -EISDIR;
  uint64_t const again = (flags & ~static_cast<uint64_t>(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC | O_NOCTTY;
  auto const call = [&] {
    return host_blocking(thread, SYS_openat, own_fd_directory(), std::to_string(found.host_fd()).c_str(), again, 0);
  };
  bool const cuts = (flags & O_TRUNC) != 0 && !path_only && S_ISREG(st.st_mode);
  int64_t const fd =
      !cuts ? call()
            : FileChangeGuard(thread, {.kind = FileChange::Kind::kResize, .fd = found.host_fd(), .size = 0}).made(call);
  if (fd < 0) return fd;
  return install(thread, UniqueFd(fd), st, flags, found.read_only);
}

// For a file just created by name: somebody may have put another object there meanwhile.
int64_t install_created(Thread& thread, int64_t fd, uint64_t flags) {
  if (fd < 0) return fd;
  UniqueFd owned(fd);
  struct stat st {};
  if (fstat(owned.get(), &st) != 0) return -errno;
  if (on_procfs(owned.get())) return -EACCES;
  if (int64_t const error = check_device(st); error != 0) return error;
  return install(thread, std::move(owned), st, flags, false);
}

int64_t open_at(Thread& thread, int dirfd, GuestAddr path, uint64_t flags, uint64_t mode) {
  flags &= kOpenFlags | O_CLOEXEC;
  mode &= 07777;
  bool const path_only = (flags & O_PATH) != 0;
  if (path_only) flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  std::string text;
  if (int64_t const error = read_path(thread, path, text); error != 0) return error;
  if (text.empty()) return -ENOENT;
  if (thread.fds().full()) return -EMFILE;
  uint64_t const host_flags = flags | O_CLOEXEC | O_NOCTTY;
  auto const create = [&](int directory, char const* name) {
    FileChangeGuard const change(thread, {.kind = FileChange::Kind::kCreate, .fd = directory, .name = name});
    return change.made([&] { return host(SYS_openat, directory, name, host_flags | O_EXCL, mode); });
  };

  if ((flags & kTmpFile) == kTmpFile) {
    Target const directory = resolve(thread, dirfd, text, true);
    if (directory.error != 0) return directory.error;
    if (directory.node || directory.read_only) return -EACCES;
    return install_created(thread, host(SYS_openat, AT_FDCWD, fd_path(directory.fd.get()).c_str(), host_flags, mode),
                           flags);
  }
  if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) {
    Parent const parent = resolve_parent(thread, dirfd, text);
    if (parent.error != 0) return parent.error;
    return install_created(thread, create(parent.fd.get(), parent.last.c_str()), flags);
  }
  Lookup found;
  for (int attempt = 0;; ++attempt) {
    static_cast<Target&>(found) = resolve(thread, dirfd, text, (flags & O_NOFOLLOW) == 0);
    if (found.error != -ENOENT || (flags & O_CREAT) == 0) break;
    if (text.back() == '/') return -EISDIR;
    int64_t fd = 0;
    if (found.parent) {
      if (on_procfs(found.parent.get())) return -EACCES;
      fd = create(found.parent.get(), found.last.c_str());
    } else {
      int at = AT_FDCWD;
      FileRef directory;
      if (text[0] != '/' && dirfd != AT_FDCWD) {
        directory = thread.fds().get(dirfd);
        if (!directory) return -EBADF;
        if (directory->read_only || dynamic_cast<ProcDirectory*>(directory.get())) return -EACCES;
        at = directory->host_fd();
      }
      open_how how{};
      // Never opens what another thread puts there meanwhile.
      how.flags = host_flags | O_EXCL;
      how.mode = mode;
      how.resolve = RESOLVE_NO_MAGICLINKS;
      FileChangeGuard const change(thread, {.kind = FileChange::Kind::kCreate, .fd = at, .name = text.c_str()});
      fd = change.made([&] { return host(SYS_openat2, at, text.c_str(), &how, sizeof how); });
    }
    if (fd != -EEXIST) return install_created(thread, fd, flags);
    if (attempt > 8) return -EAGAIN;
  }
  if (found.error != 0) return found.error;
  if (found.node) return open_node(thread, *found.node, flags);
  return reopen(thread, std::move(found), flags);
}

int64_t do_open(Thread& thread, SyscallArgs const& args) {
  return open_at(thread, AT_FDCWD, addr_arg(args, 0), args.a[1], args.a[2]);
}
int64_t do_openat(Thread& thread, SyscallArgs const& args) {
  return open_at(thread, int_arg(args, 0), addr_arg(args, 1), args.a[2], args.a[3]);
}
int64_t do_creat(Thread& thread, SyscallArgs const& args) {
  return open_at(thread, AT_FDCWD, addr_arg(args, 0), O_CREAT | O_WRONLY | O_TRUNC, args.a[1]);
}
int64_t no_openat2(Thread&, SyscallArgs const&) {
  return -ENOSYS;
}

// procfs's root: the process directories of the host are left out, the guest's own is put in for
// the monitor's.
int64_t proc_root_entries(Thread& thread, OpenFile const& file, GuestAddr to, size_t size) {
  std::vector<std::byte> host_entries(std::min<size_t>(size, 1 << 16));
  std::vector<std::byte> entries(host_entries.size());
  std::string const own = std::to_string(::getpid());
  while (true) {
    int64_t const n = host(SYS_getdents64, file.host_fd(), host_entries.data(), host_entries.size());
    if (n <= 0) return n;
    size_t used = 0;
    for (size_t at = 0; at < static_cast<size_t>(n);) {
      std::byte const* const entry = host_entries.data() + at;
      uint64_t inode = 0;
      int64_t next = 0;
      uint16_t length = 0;
      std::memcpy(&inode, entry, 8);
      std::memcpy(&next, entry + 8, 8);
      std::memcpy(&length, entry + 16, 2);
      std::string name = reinterpret_cast<char const*>(entry + 19);
      at += length;
      bool const process = !name.empty() && name[0] >= '0' && name[0] <= '9';
      if (process && name != own) continue;
      if (process) name = std::to_string(Process::pid());
      if (!put_dirent(entries.data(), entries.size(), used, name, static_cast<unsigned char>(entry[18]), inode, next)) {
        return -EINVAL;
      }
    }
    if (used == 0) continue;
    if (!write_out(thread, to, entries.data(), used)) return -EFAULT;
    return static_cast<int64_t>(used);
  }
}

int64_t do_getdents64(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  GuestAddr const to = addr_arg(args, 1);
  size_t const size = static_cast<uint32_t>(args.a[2]);
  if (!thread.memory().contains(to, size)) return -EFAULT;
  thread.announce_out({to, size});
  if (auto* const directory = dynamic_cast<ProcDirectory*>(file.get())) {
    std::vector<std::byte> entries(std::min<size_t>(size, 1 << 16));
    int64_t const n = directory->read(thread, entries.data(), entries.size());
    if (n > 0 && !write_out(thread, to, entries.data(), static_cast<uint64_t>(n))) {
      return -EFAULT;
    }
    return n;
  }
  if (file->read_only && file->kind() == OpenFile::Kind::kDirectory) {
    struct stat st {};
    if (fstat(file->host_fd(), &st) == 0 && st.st_ino == 1) {
      return proc_root_entries(thread, *file, to, size);
    }
  }
  void* const buffer = thread.memory().buffer(to, size, Access::kWrite);
  if (buffer == nullptr) return -EFAULT;
  return host(SYS_getdents64, file->host_fd(), buffer, size);
}

int64_t read_link_at(Thread& thread, int dirfd, GuestAddr path, GuestAddr to, int size, bool empty_ok) {
  if (size <= 0) return -EINVAL;
  Lookup const found = look_up(thread, dirfd, path, false, empty_ok);
  if (found.error != 0) return found.error;
  auto const length = static_cast<uint64_t>(size);
  if (!thread.memory().contains(to, length)) return -EFAULT;
  thread.announce_out({to, length});
  if (found.node) {
    if (proc_kind(thread, *found.node) != ProcKind::kLink) return -EINVAL;
    std::string const text = proc_link(thread, *found.node);
    if (text.empty()) return -ENOENT;
    uint64_t const n = std::min<uint64_t>(text.size(), length);
    return write_out(thread, to, text.data(), n) ? static_cast<int64_t>(n) : -EFAULT;
  }
  void* const buffer = thread.memory().buffer(to, length, Access::kWrite);
  if (buffer == nullptr) return -EFAULT;
  int64_t const n = host(SYS_readlinkat, found.host_fd(), "", buffer, length);
  return n == -ENOENT ? -EINVAL : n;  // no link: an empty path is refused only for those
}

int64_t do_readlink(Thread& thread, SyscallArgs const& args) {
  return read_link_at(thread, AT_FDCWD, addr_arg(args, 0), addr_arg(args, 1), int_arg(args, 2), false);
}
int64_t do_readlinkat(Thread& thread, SyscallArgs const& args) {
  return read_link_at(thread, int_arg(args, 0), addr_arg(args, 1), addr_arg(args, 2), int_arg(args, 3), true);
}

using namespace arg;
constexpr SyscallRow kRows[] = {
    {SYS_open, "open", {kPath, kNum, kNum}, do_open},
    {SYS_openat, "openat", {kAt, kPath, kNum, kNum}, do_openat},
    {SYS_openat2, "openat2", {}, no_openat2, Support::kDenied, "ENOSYS, so that callers fall back to openat"},
    {SYS_creat, "creat", {kPath, kNum}, do_creat},
    {SYS_getdents64, "getdents64", {kFd, out(from_arg(2)), kNum}, do_getdents64},
    {SYS_readlink, "readlink", {kPath, out(from_arg(2)), kNum}, do_readlink},
    {SYS_readlinkat, "readlinkat", {kAt, kPath, out(from_arg(3)), kNum}, do_readlinkat},
};

}  // namespace

std::span<SyscallRow const> open_rows() {
  return kRows;
}

}  // namespace vmm
