// stat, statx, access, statfs.
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/lookup.hpp"

namespace vmm {

namespace {

mode_t node_mode(ProcKind kind) {
  if (kind == ProcKind::kDirectory) return S_IFDIR | 0555;
  if (kind == ProcKind::kLink) return S_IFLNK | 0777;
  return S_IFREG | 0444;
}

int64_t stat_node(Thread& thread, ProcNode const& node, GuestAddr to) {
  struct stat st {};
  st.st_mode = node_mode(proc_kind(thread, node));
  st.st_nlink = 1;
  st.st_uid = getuid();
  st.st_gid = getgid();
  st.st_blksize = 1024;
  st.st_ino = std::hash<std::string>{}(node.parts.empty() ? "" : node.parts.back()) >> 1;
  clock_gettime(CLOCK_REALTIME, &st.st_mtim);
  st.st_atim = st.st_ctim = st.st_mtim;
  return write_out(thread, to, st) ? 0 : -EFAULT;
}

int64_t stat_at(Thread& thread, int dirfd, GuestAddr path, GuestAddr to, uint64_t flags) {
  constexpr uint64_t kKnown = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH;
  if ((flags & ~kKnown) != 0) return -EINVAL;
  Lookup const found = look_up(thread, dirfd, path, (flags & AT_SYMLINK_NOFOLLOW) == 0, (flags & AT_EMPTY_PATH) != 0);
  if (found.error != 0) return found.error;
  thread.announce_out({to, sizeof(struct stat)});
  if (found.node) return stat_node(thread, *found.node, to);
  void* const buffer = thread.memory().buffer(to, sizeof(struct stat), Access::kWrite);
  if (buffer == nullptr) return -EFAULT;
  return host(SYS_newfstatat, found.host_fd(), "", buffer, AT_EMPTY_PATH);
}

int64_t do_stat(Thread& thread, SyscallArgs const& args) {
  return stat_at(thread, AT_FDCWD, addr_arg(args, 0), addr_arg(args, 1), 0);
}
int64_t do_lstat(Thread& thread, SyscallArgs const& args) {
  return stat_at(thread, AT_FDCWD, addr_arg(args, 0), addr_arg(args, 1), AT_SYMLINK_NOFOLLOW);
}
int64_t do_newfstatat(Thread& thread, SyscallArgs const& args) {
  return stat_at(thread, int_arg(args, 0), addr_arg(args, 1), addr_arg(args, 2), static_cast<uint32_t>(args.a[3]));
}

int64_t do_statx(Thread& thread, SyscallArgs const& args) {
  auto const flags = static_cast<uint32_t>(args.a[2]);
  constexpr uint32_t kKnown = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
  if ((flags & ~kKnown) != 0) return -EINVAL;
  GuestAddr const to = addr_arg(args, 4);
  Lookup const found = look_up(thread, int_arg(args, 0), addr_arg(args, 1), (flags & AT_SYMLINK_NOFOLLOW) == 0,
                               (flags & AT_EMPTY_PATH) != 0);
  if (found.error != 0) return found.error;
  thread.announce_out({to, sizeof(struct statx)});
  if (found.node) {
    struct statx st {};
    st.stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_UID | STATX_GID;
    st.stx_mode = static_cast<uint16_t>(node_mode(proc_kind(thread, *found.node)));
    st.stx_nlink = 1;
    st.stx_uid = getuid();
    st.stx_gid = getgid();
    st.stx_blksize = 1024;
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    st.stx_mask |= STATX_ATIME | STATX_MTIME | STATX_CTIME;
    st.stx_mtime = {now.tv_sec, static_cast<uint32_t>(now.tv_nsec), 0};
    st.stx_atime = st.stx_ctime = st.stx_mtime;
    return write_out(thread, to, st) ? 0 : -EFAULT;
  }
  void* const buffer = thread.memory().buffer(to, sizeof(struct statx), Access::kWrite);
  if (buffer == nullptr) return -EFAULT;
  return host(SYS_statx, found.host_fd(), "", AT_EMPTY_PATH | (flags & AT_STATX_SYNC_TYPE), args.a[3], buffer);
}

int64_t access_at(Thread& thread, int dirfd, GuestAddr path, int mode, uint64_t flags) {
  constexpr uint64_t kKnown = AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
  if ((flags & ~kKnown) != 0 || (mode & ~(R_OK | W_OK | X_OK)) != 0) return -EINVAL;
  Lookup const found = look_up(thread, dirfd, path, (flags & AT_SYMLINK_NOFOLLOW) == 0, (flags & AT_EMPTY_PATH) != 0);
  if (found.error != 0) return found.error;
  if (found.unchangeable() && (mode & W_OK) != 0) return -EACCES;
  if (found.node) {
    bool const run = proc_kind(thread, *found.node) == ProcKind::kDirectory;
    return (mode & X_OK) != 0 && !run ? -EACCES : 0;
  }
  return host(SYS_faccessat2, found.host_fd(), "", mode, AT_EMPTY_PATH | (flags & AT_EACCESS));
}

int64_t do_access(Thread& thread, SyscallArgs const& args) {
  return access_at(thread, AT_FDCWD, addr_arg(args, 0), int_arg(args, 1), 0);
}
int64_t do_faccessat(Thread& thread, SyscallArgs const& args) {
  return access_at(thread, int_arg(args, 0), addr_arg(args, 1), int_arg(args, 2), 0);
}
int64_t do_faccessat2(Thread& thread, SyscallArgs const& args) {
  return access_at(thread, int_arg(args, 0), addr_arg(args, 1), int_arg(args, 2), static_cast<uint32_t>(args.a[3]));
}

int64_t do_statfs(Thread& thread, SyscallArgs const& args) {
  GuestAddr const to = addr_arg(args, 1);
  Lookup found = look_up(thread, AT_FDCWD, addr_arg(args, 0), true, false);
  if (found.error != 0) return found.error;
  void* const buffer = thread.memory().buffer(to, sizeof(struct statfs), Access::kWrite);
  if (buffer == nullptr) return -EFAULT;
  thread.announce_out({to, sizeof(struct statfs)});
  if (found.node) return host(SYS_statfs, "/proc", buffer);
  return host(SYS_fstatfs, found.host_fd(), buffer);
}

using namespace arg;
constexpr int32_t kStat = sizeof(struct stat);
constexpr SyscallRow kRows[] = {
    {SYS_stat, "stat", {kPath, out(kStat)}, do_stat},
    {SYS_lstat, "lstat", {kPath, out(kStat)}, do_lstat},
    {SYS_fstat, "fstat", {kFd, out(kStat)}, pass_through},
    {SYS_newfstatat, "newfstatat", {kAt, kPathOrNull, out(kStat), kNum}, do_newfstatat},
    {SYS_statx, "statx", {kAt, kPathOrNull, kNum, kNum, out(sizeof(struct statx))}, do_statx},
    {SYS_access, "access", {kPath, kNum}, do_access},
    {SYS_faccessat, "faccessat", {kAt, kPath, kNum}, do_faccessat},
    {SYS_faccessat2, "faccessat2", {kAt, kPathOrNull, kNum, kNum}, do_faccessat2},
    {SYS_statfs, "statfs", {kPath, out(sizeof(struct statfs))}, do_statfs},
    {SYS_fstatfs, "fstatfs", {kFd, out(sizeof(struct statfs))}, pass_through},
};

}  // namespace

std::span<SyscallRow const> stat_rows() {
  return kRows;
}

}  // namespace vmm
