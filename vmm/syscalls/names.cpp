// Calls that make, move and remove names, and the working directory.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "vmm/file_journal.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/lookup.hpp"

namespace vmm {

namespace {

Parent parent_of(Thread& thread, int dirfd, GuestAddr path) {
  std::string text;
  if (int64_t const error = read_path(thread, path, text); error != 0) {
    Parent failed;
    failed.error = error;
    return failed;
  }
  return resolve_parent(thread, dirfd, text);
}

FileChange naming(FileChange::Kind kind, Parent const& parent) {
  return {.kind = kind, .fd = parent.fd.get(), .name = parent.last.c_str()};
}
FileChange moving(FileChange::Kind kind, Parent const& from, Parent const& to) {
  return {
      .kind = kind, .fd = from.fd.get(), .name = from.last.c_str(), .to_fd = to.fd.get(), .to_name = to.last.c_str()};
}

int64_t mkdir_at(Thread& thread, int dirfd, GuestAddr path, uint64_t mode) {
  Parent const parent = parent_of(thread, dirfd, path);
  if (parent.error != 0) return parent.error;
  FileChangeGuard const change(thread, naming(FileChange::Kind::kCreate, parent));
  return change.made([&] { return host(SYS_mkdirat, parent.fd.get(), parent.last.c_str(), mode); });
}
int64_t do_mkdir(Thread& thread, SyscallArgs const& args) {
  return mkdir_at(thread, AT_FDCWD, addr_arg(args, 0), args.a[1]);
}
int64_t do_mkdirat(Thread& thread, SyscallArgs const& args) {
  return mkdir_at(thread, int_arg(args, 0), addr_arg(args, 1), args.a[2]);
}

// Plain files, FIFOs and sockets; device nodes are a way to the host's devices.
int64_t mknod_at(Thread& thread, int dirfd, GuestAddr path, uint64_t mode) {
  if (S_ISCHR(mode) || S_ISBLK(mode)) return -EPERM;
  Parent const parent = parent_of(thread, dirfd, path);
  if (parent.error != 0) return parent.error;
  FileChangeGuard const change(thread, naming(FileChange::Kind::kCreate, parent));
  return change.made(
      [&] { return host(SYS_mknodat, parent.fd.get(), parent.last.c_str(), static_cast<uint32_t>(mode), 0); });
}
int64_t do_mknod(Thread& thread, SyscallArgs const& args) {
  return mknod_at(thread, AT_FDCWD, addr_arg(args, 0), args.a[1]);
}
int64_t do_mknodat(Thread& thread, SyscallArgs const& args) {
  return mknod_at(thread, int_arg(args, 0), addr_arg(args, 1), args.a[2]);
}

int64_t unlink_at(Thread& thread, int dirfd, GuestAddr path, uint64_t flags) {
  Parent const parent = parent_of(thread, dirfd, path);
  if (parent.error == -EEXIST) return (flags & AT_REMOVEDIR) != 0 ? -EBUSY : -EISDIR;
  if (parent.error != 0) return parent.error;
  FileChangeGuard const change(thread, naming(FileChange::Kind::kRemove, parent));
  return change.made([&] { return host(SYS_unlinkat, parent.fd.get(), parent.last.c_str(), flags); });
}
int64_t do_unlink(Thread& thread, SyscallArgs const& args) {
  return unlink_at(thread, AT_FDCWD, addr_arg(args, 0), 0);
}
int64_t do_rmdir(Thread& thread, SyscallArgs const& args) {
  return unlink_at(thread, AT_FDCWD, addr_arg(args, 0), AT_REMOVEDIR);
}
int64_t do_unlinkat(Thread& thread, SyscallArgs const& args) {
  return unlink_at(thread, int_arg(args, 0), addr_arg(args, 1), static_cast<uint32_t>(args.a[2]));
}

int64_t rename_at(Thread& thread, int from_fd, GuestAddr from, int to_fd, GuestAddr to, uint64_t flags) {
  Parent const source = parent_of(thread, from_fd, from);
  Parent const target = parent_of(thread, to_fd, to);
  if (source.error == -EEXIST || target.error == -EEXIST) return -EBUSY;
  if (source.error != 0) return source.error;
  if (target.error != 0) return target.error;
  bool const swaps = (flags & RENAME_EXCHANGE) != 0;
  FileChangeGuard const change(thread,
                               moving(swaps ? FileChange::Kind::kExchange : FileChange::Kind::kRename, source, target));
  return change.made([&] {
    return host(SYS_renameat2, source.fd.get(), source.last.c_str(), target.fd.get(), target.last.c_str(), flags);
  });
}
int64_t do_rename(Thread& thread, SyscallArgs const& args) {
  return rename_at(thread, AT_FDCWD, addr_arg(args, 0), AT_FDCWD, addr_arg(args, 1), 0);
}
int64_t do_renameat(Thread& thread, SyscallArgs const& args) {
  return rename_at(thread, int_arg(args, 0), addr_arg(args, 1), int_arg(args, 2), addr_arg(args, 3), 0);
}
int64_t do_renameat2(Thread& thread, SyscallArgs const& args) {
  return rename_at(thread, int_arg(args, 0), addr_arg(args, 1), int_arg(args, 2), addr_arg(args, 3),
                   static_cast<uint32_t>(args.a[4]));
}

int64_t link_at(Thread& thread, int from_fd, GuestAddr from, int to_fd, GuestAddr to, uint64_t flags) {
  if ((flags & ~static_cast<uint64_t>(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0) return -EINVAL;
  Lookup const source = look_up(thread, from_fd, from, (flags & AT_SYMLINK_FOLLOW) != 0, (flags & AT_EMPTY_PATH) != 0);
  if (source.error != 0) return source.error;
  if (source.unchangeable()) return -EXDEV;
  Parent const target = parent_of(thread, to_fd, to);
  if (target.error != 0) return target.error;
  FileChangeGuard const change(thread, naming(FileChange::Kind::kCreate, target));
  return change.made([&] {
    return host(SYS_linkat, AT_FDCWD, fd_path(source.host_fd()).c_str(), target.fd.get(), target.last.c_str(),
                AT_SYMLINK_FOLLOW);
  });
}
int64_t do_link(Thread& thread, SyscallArgs const& args) {
  return link_at(thread, AT_FDCWD, addr_arg(args, 0), AT_FDCWD, addr_arg(args, 1), 0);
}
int64_t do_linkat(Thread& thread, SyscallArgs const& args) {
  return link_at(thread, int_arg(args, 0), addr_arg(args, 1), int_arg(args, 2), addr_arg(args, 3),
                 static_cast<uint32_t>(args.a[4]));
}

int64_t symlink_at(Thread& thread, GuestAddr text, int dirfd, GuestAddr path) {
  std::string target;
  if (int64_t const error = read_path(thread, text, target); error != 0) return error;
  Parent const parent = parent_of(thread, dirfd, path);
  if (parent.error != 0) return parent.error;
  FileChangeGuard const change(thread, naming(FileChange::Kind::kCreate, parent));
  return change.made([&] { return host(SYS_symlinkat, target.c_str(), parent.fd.get(), parent.last.c_str()); });
}
int64_t do_symlink(Thread& thread, SyscallArgs const& args) {
  return symlink_at(thread, addr_arg(args, 0), AT_FDCWD, addr_arg(args, 1));
}
int64_t do_symlinkat(Thread& thread, SyscallArgs const& args) {
  return symlink_at(thread, addr_arg(args, 0), int_arg(args, 1), addr_arg(args, 2));
}

int64_t do_chdir(Thread& thread, SyscallArgs const& args) {
  Lookup const found = look_up(thread, AT_FDCWD, addr_arg(args, 0), true, false);
  if (found.error != 0) return found.error;
  return found.node ? -EACCES : host(SYS_fchdir, found.host_fd());
}
int64_t do_fchdir(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  if (dynamic_cast<ProcDirectory*>(file.get())) return -EACCES;
  return host(SYS_fchdir, file->host_fd());
}

using namespace arg;
constexpr SyscallRow kRows[] = {
    {SYS_mkdir, "mkdir", {kPath, kNum}, do_mkdir},
    {SYS_mkdirat, "mkdirat", {kAt, kPath, kNum}, do_mkdirat},
    {SYS_mknod, "mknod", {kPath, kNum, kNum}, do_mknod, Support::kPartial, "no device nodes"},
    {SYS_mknodat, "mknodat", {kAt, kPath, kNum, kNum}, do_mknodat, Support::kPartial, "no device nodes"},
    {SYS_unlink, "unlink", {kPath}, do_unlink},
    {SYS_rmdir, "rmdir", {kPath}, do_rmdir},
    {SYS_unlinkat, "unlinkat", {kAt, kPath, kNum}, do_unlinkat},
    {SYS_rename, "rename", {kPath, kPath}, do_rename},
    {SYS_renameat, "renameat", {kAt, kPath, kAt, kPath}, do_renameat},
    {SYS_renameat2, "renameat2", {kAt, kPath, kAt, kPath, kNum}, do_renameat2},
    {SYS_link, "link", {kPath, kPath}, do_link},
    {SYS_linkat, "linkat", {kAt, kPathOrNull, kAt, kPath, kNum}, do_linkat},
    {SYS_symlink, "symlink", {kPath, kPath}, do_symlink},
    {SYS_symlinkat, "symlinkat", {kPath, kAt, kPath}, do_symlinkat},
    {SYS_getcwd, "getcwd", {out(from_arg(1)), kNum}, pass_through},
    {SYS_chdir, "chdir", {kPath}, do_chdir, Support::kFull, "not into /proc/self"},
    {SYS_fchdir, "fchdir", {kFd}, do_fchdir, Support::kFull, "not into /proc/self"},
    {SYS_umask, "umask", {kNum}, pass_through},
};

}  // namespace

std::span<SyscallRow const> name_rows() {
  return kRows;
}

}  // namespace vmm
