// Owner, mode, times, size and extended attributes of files; watches on them.
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <utime.h>

#include "vmm/file_journal.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/lookup.hpp"

namespace vmm {

namespace {

FileChange attributes_of(int host_fd) {
  return {.kind = FileChange::Kind::kAttributes, .fd = host_fd};
}

int64_t chmod_at(Thread& thread, int dirfd, GuestAddr path, uint64_t mode, uint64_t flags) {
  if ((flags & ~static_cast<uint64_t>(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  Lookup const found = look_up(thread, dirfd, path, (flags & AT_SYMLINK_NOFOLLOW) == 0, (flags & AT_EMPTY_PATH) != 0);
  if (found.error != 0) return found.error;
  if (found.unchangeable()) return -EPERM;
  FileChangeGuard const change(thread, attributes_of(found.host_fd()));
  return change.made(
      [&] { return host(SYS_fchmodat, AT_FDCWD, fd_path(found.host_fd()).c_str(), static_cast<uint32_t>(mode)); });
}
int64_t do_chmod(Thread& thread, SyscallArgs const& args) {
  return chmod_at(thread, AT_FDCWD, addr_arg(args, 0), args.a[1], 0);
}
int64_t do_fchmod(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  if (file->read_only || dynamic_cast<ProcDirectory*>(file.get())) return -EPERM;
  FileChangeGuard const change(thread, attributes_of(file->host_fd()));
  return change.made([&] { return host(SYS_fchmod, file->host_fd(), static_cast<uint32_t>(args.a[1])); });
}
int64_t do_fchmodat(Thread& thread, SyscallArgs const& args) {
  return chmod_at(thread, int_arg(args, 0), addr_arg(args, 1), args.a[2], 0);
}
int64_t do_fchmodat2(Thread& thread, SyscallArgs const& args) {
  return chmod_at(thread, int_arg(args, 0), addr_arg(args, 1), args.a[2], static_cast<uint32_t>(args.a[3]));
}

int64_t chown_at(Thread& thread, int dirfd, GuestAddr path, uint64_t user, uint64_t group, uint64_t flags) {
  if ((flags & ~static_cast<uint64_t>(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  Lookup const found = look_up(thread, dirfd, path, (flags & AT_SYMLINK_NOFOLLOW) == 0, (flags & AT_EMPTY_PATH) != 0);
  if (found.error != 0) return found.error;
  if (found.unchangeable()) return -EPERM;
  FileChangeGuard const change(thread, attributes_of(found.host_fd()));
  return change.made([&] { return host(SYS_fchownat, found.host_fd(), "", user, group, AT_EMPTY_PATH); });
}
int64_t do_chown(Thread& thread, SyscallArgs const& args) {
  return chown_at(thread, AT_FDCWD, addr_arg(args, 0), args.a[1], args.a[2], 0);
}
int64_t do_lchown(Thread& thread, SyscallArgs const& args) {
  return chown_at(thread, AT_FDCWD, addr_arg(args, 0), args.a[1], args.a[2], AT_SYMLINK_NOFOLLOW);
}
int64_t do_fchown(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  if (file->read_only || dynamic_cast<ProcDirectory*>(file.get())) return -EPERM;
  FileChangeGuard const change(thread, attributes_of(file->host_fd()));
  return change.made([&] { return host(SYS_fchown, file->host_fd(), args.a[1], args.a[2]); });
}
int64_t do_fchownat(Thread& thread, SyscallArgs const& args) {
  return chown_at(thread, int_arg(args, 0), addr_arg(args, 1), args.a[2], args.a[3], static_cast<uint32_t>(args.a[4]));
}

int64_t set_times(Thread& thread, Lookup const& found, timespec const* times) {
  if (found.error != 0) return found.error;
  if (found.unchangeable()) return -EPERM;
  FileChangeGuard const change(thread, attributes_of(found.host_fd()));
  return change.made([&] { return host(SYS_utimensat, AT_FDCWD, fd_path(found.host_fd()).c_str(), times, 0); });
}
int64_t do_utimensat(Thread& thread, SyscallArgs const& args) {
  auto const flags = static_cast<uint32_t>(args.a[3]);
  if ((flags & ~static_cast<uint32_t>(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  timespec times[2]{};
  GuestAddr const from = addr_arg(args, 2);
  if (from && !thread.memory().read(from, times)) return -EFAULT;
  GuestAddr const path = addr_arg(args, 1);
  bool const empty_ok = !path || (flags & AT_EMPTY_PATH) != 0;  // no path: futimens()
  return set_times(thread, look_up(thread, int_arg(args, 0), path, (flags & AT_SYMLINK_NOFOLLOW) == 0, empty_ok),
                   from ? times : nullptr);
}
int64_t times_of_day(Thread& thread, int dirfd, GuestAddr path, GuestAddr from) {
  timeval values[2]{};
  timespec times[2]{};
  if (from) {
    if (!thread.memory().read(from, values)) return -EFAULT;
    for (int i = 0; i < 2; ++i) {
      if (values[i].tv_usec < 0 || values[i].tv_usec >= 1000000) return -EINVAL;
      times[i] = {values[i].tv_sec, values[i].tv_usec * 1000};
    }
  }
  return set_times(thread, look_up(thread, dirfd, path, true, false), from ? times : nullptr);
}
int64_t do_utimes(Thread& thread, SyscallArgs const& args) {
  return times_of_day(thread, AT_FDCWD, addr_arg(args, 0), addr_arg(args, 1));
}
int64_t do_futimesat(Thread& thread, SyscallArgs const& args) {
  return times_of_day(thread, int_arg(args, 0), addr_arg(args, 1), addr_arg(args, 2));
}
int64_t do_utime(Thread& thread, SyscallArgs const& args) {
  utimbuf values{};
  GuestAddr const from = addr_arg(args, 1);
  if (from && !thread.memory().read(from, values)) return -EFAULT;
  timespec const times[2]{{values.actime, 0}, {values.modtime, 0}};
  return set_times(thread, look_up(thread, AT_FDCWD, addr_arg(args, 0), true, false), from ? times : nullptr);
}

int64_t do_truncate(Thread& thread, SyscallArgs const& args) {
  Lookup const found = look_up(thread, AT_FDCWD, addr_arg(args, 0), true, false);
  if (found.error != 0) return found.error;
  if (found.unchangeable()) return -EACCES;
  FileChangeGuard const change(thread, {.kind = FileChange::Kind::kResize, .fd = found.host_fd(), .size = args.a[1]});
  return change.made([&] { return host(SYS_truncate, fd_path(found.host_fd()).c_str(), args.a[1]); });
}

// ---- extended attributes: read all, write those of the "user" name space only (the others carry
// the host's security decisions) ----

enum class By { kPath, kLink, kFd };

Lookup attribute_holder(Thread& thread, SyscallArgs const& args, By by) {
  if (by == By::kFd) return look_up(thread, int_arg(args, 0), GuestAddr(), true, true);
  return look_up(thread, AT_FDCWD, addr_arg(args, 0), by == By::kPath, false);
}

template <By by>
int64_t get_attribute(Thread& thread, SyscallArgs const& args) {
  std::string name;
  if (int error = thread.memory().read_string(addr_arg(args, 1), name, XATTR_NAME_MAX + 1)) {
    return error == ENAMETOOLONG ? -ERANGE : -error;
  }
  Lookup const found = attribute_holder(thread, args, by);
  if (found.error != 0) return found.error;
  if (found.node) return -EOPNOTSUPP;
  uint64_t const size = args.a[3];
  void* const value = size == 0 ? nullptr : thread.memory().buffer(addr_arg(args, 2), size, Access::kWrite);
  if (size != 0 && value == nullptr) return -EFAULT;
  thread.announce_out({addr_arg(args, 2), size});
  return host(SYS_getxattr, fd_path(found.host_fd()).c_str(), name.c_str(), value, size);
}

template <By by>
int64_t list_attributes(Thread& thread, SyscallArgs const& args) {
  Lookup const found = attribute_holder(thread, args, by);
  if (found.error != 0) return found.error;
  if (found.node) return 0;
  uint64_t const size = args.a[2];
  void* const list = size == 0 ? nullptr : thread.memory().buffer(addr_arg(args, 1), size, Access::kWrite);
  if (size != 0 && list == nullptr) return -EFAULT;
  thread.announce_out({addr_arg(args, 1), size});
  return host(SYS_listxattr, fd_path(found.host_fd()).c_str(), list, size);
}

template <By by>
int64_t change_attribute(Thread& thread, SyscallArgs const& args) {
  std::string name;
  if (int error = thread.memory().read_string(addr_arg(args, 1), name, XATTR_NAME_MAX + 1)) {
    return error == ENAMETOOLONG ? -ERANGE : -error;
  }
  bool const set = args.nr == SYS_setxattr || args.nr == SYS_lsetxattr || args.nr == SYS_fsetxattr;
  uint64_t const size = set ? args.a[3] : 0;
  void* const value = size == 0 ? nullptr : thread.memory().buffer(addr_arg(args, 2), size, Access::kRead);
  if (size != 0 && value == nullptr) return -EFAULT;
  Lookup const found = attribute_holder(thread, args, by);
  if (found.error != 0) return found.error;
  if (found.unchangeable() || !name.starts_with("user.")) return -EPERM;
  std::string const path = fd_path(found.host_fd());
  if (!set) return host(SYS_removexattr, path.c_str(), name.c_str());
  return host(SYS_setxattr, path.c_str(), name.c_str(), value, size, int_arg(args, 4));
}

// ---- inotify ----

int64_t do_inotify_init(Thread& thread, SyscallArgs const& args) {
  int const flags = args.nr == SYS_inotify_init1 ? int_arg(args, 0) : 0;
  return install_host_fd(thread, host(SYS_inotify_init1, flags | IN_CLOEXEC), (flags & IN_CLOEXEC) != 0,
                         OpenFile::Kind::kInotify);
}
int64_t do_inotify_add_watch(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  auto const mask = static_cast<uint32_t>(args.a[2]);
  Lookup const found = look_up(thread, AT_FDCWD, addr_arg(args, 1), (mask & IN_DONT_FOLLOW) == 0, false);
  if (found.error != 0) return found.error;
  if (found.unchangeable()) return -EACCES;
  return host(SYS_inotify_add_watch, file->host_fd(), fd_path(found.host_fd()).c_str(),
              mask & ~static_cast<uint32_t>(IN_DONT_FOLLOW));
}

using namespace arg;
constexpr char const* kUserOnly = "names of the user name space only";
constexpr SyscallRow kRows[] = {
    {SYS_chmod, "chmod", {kPath, kNum}, do_chmod},
    {SYS_fchmod, "fchmod", {kFd, kNum}, do_fchmod},
    {SYS_fchmodat, "fchmodat", {kAt, kPath, kNum}, do_fchmodat},
    {452, "fchmodat2", {kAt, kPathOrNull, kNum, kNum}, do_fchmodat2},
    {SYS_chown, "chown", {kPath, kNum, kNum}, do_chown},
    {SYS_lchown, "lchown", {kPath, kNum, kNum}, do_lchown},
    {SYS_fchown, "fchown", {kFd, kNum, kNum}, do_fchown},
    {SYS_fchownat, "fchownat", {kAt, kPathOrNull, kNum, kNum, kNum}, do_fchownat},
    {SYS_utimensat, "utimensat", {kAt, kPathOrNull, in_or_null(32), kNum}, do_utimensat},
    {SYS_utimes, "utimes", {kPath, in_or_null(32)}, do_utimes},
    {SYS_futimesat, "futimesat", {kAt, kPath, in_or_null(32)}, do_futimesat},
    {SYS_utime, "utime", {kPath, in_or_null(16)}, do_utime},
    {SYS_truncate, "truncate", {kPath, kNum}, do_truncate},
    {SYS_getxattr, "getxattr", {kPath, kPath, out(from_arg(3)), kNum}, get_attribute<By::kPath>},
    {SYS_lgetxattr, "lgetxattr", {kPath, kPath, out(from_arg(3)), kNum}, get_attribute<By::kLink>},
    {SYS_fgetxattr, "fgetxattr", {kFd, kPath, out(from_arg(3)), kNum}, get_attribute<By::kFd>},
    {SYS_listxattr, "listxattr", {kPath, out(from_arg(2)), kNum}, list_attributes<By::kPath>},
    {SYS_llistxattr, "llistxattr", {kPath, out(from_arg(2)), kNum}, list_attributes<By::kLink>},
    {SYS_flistxattr, "flistxattr", {kFd, out(from_arg(2)), kNum}, list_attributes<By::kFd>},
    {SYS_setxattr,
     "setxattr",
     {kPath, kPath, in(from_arg(3)), kNum, kNum},
     change_attribute<By::kPath>,
     Support::kPartial,
     kUserOnly},
    {SYS_lsetxattr,
     "lsetxattr",
     {kPath, kPath, in(from_arg(3)), kNum, kNum},
     change_attribute<By::kLink>,
     Support::kPartial,
     kUserOnly},
    {SYS_fsetxattr,
     "fsetxattr",
     {kFd, kPath, in(from_arg(3)), kNum, kNum},
     change_attribute<By::kFd>,
     Support::kPartial,
     kUserOnly},
    {SYS_removexattr, "removexattr", {kPath, kPath}, change_attribute<By::kPath>, Support::kPartial, kUserOnly},
    {SYS_lremovexattr, "lremovexattr", {kPath, kPath}, change_attribute<By::kLink>, Support::kPartial, kUserOnly},
    {SYS_fremovexattr, "fremovexattr", {kFd, kPath}, change_attribute<By::kFd>, Support::kPartial, kUserOnly},
    {SYS_inotify_init, "inotify_init", {}, do_inotify_init},
    {SYS_inotify_init1, "inotify_init1", {kNum}, do_inotify_init},
    {SYS_inotify_add_watch, "inotify_add_watch", {kFd, kPath, kNum}, do_inotify_add_watch},
    {SYS_inotify_rm_watch, "inotify_rm_watch", {kFd, kNum}, pass_through},
};

}  // namespace

std::span<SyscallRow const> attribute_rows() {
  return kRows;
}

}  // namespace vmm
