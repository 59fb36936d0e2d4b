// read, write and their kind; offsets; bringing data to the disk.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>

#include "vmm/file_journal.hpp"
#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/io_result.hpp"
#include "vmm/syscalls/iovec.hpp"
#include "vmm/syscalls/procfs.hpp"
#include "vmm/syscalls/signalfd.hpp"

namespace vmm {

bool sends_sigpipe(OpenFile const& file) {
  if (file.kind() != OpenFile::Kind::kSocket) return true;
  int type = 0;
  socklen_t size = sizeof type;
  return host(SYS_getsockopt, file.host_fd(), SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

int64_t finish_io(Thread& thread, OpenFile const& file, int64_t result) {
  if (result == -EPIPE && sends_sigpipe(file)) raise_sigpipe(thread);
  // socket(7): a call on a socket with a time-out is never restarted after a handler.
  if (result == kRestartSys && file.socket_timeout) return kRestartNoHand;
  return result;
}

namespace {

FileChangeGuard write_change(Thread& thread, OpenFile& file, uint64_t offset, uint64_t size, int mode = 0) {
  return {thread,
          {.kind = FileChange::Kind::kWrite,
           .fd = file.host_fd(),
           .file = &file,
           .offset = offset,
           .size = size,
           .mode = mode}};
}

int64_t transfer(Thread& thread, SyscallArgs const& args, Access access) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  GuestAddr const at = addr_arg(args, 1);
  uint64_t const size = args.a[2];
  void* const buffer = thread.memory().buffer(at, size, access);
  if (buffer == nullptr) return -EFAULT;
  if (access == Access::kWrite) thread.announce_out({at, size});
  if (args.nr == SYS_read && file->kind() == OpenFile::Kind::kSignalFd) {
    std::array<std::byte, 32 * 128> records;  // as many as one read takes at a time
    int64_t const n =
        static_cast<SignalFd&>(*file).read(thread, records.data(), std::min<uint64_t>(size, records.size()));
    bool const lost = n > 0 && !write_out(thread, at, records.data(), static_cast<uint64_t>(n));
    return lost ? -EFAULT : n;
  }
  auto const call = [&] {
    return host_blocking(thread, static_cast<long>(args.nr), file->host_fd(), buffer, size, args.a[3]);
  };
  if (access == Access::kRead) {
    uint64_t const offset = args.nr == SYS_write ? FileChange::kOwnPosition : args.a[3];
    return finish_io(thread, *file, write_change(thread, *file, offset, size).made(call));
  }
  return finish_io(thread, *file, call());
}

int64_t do_read(Thread& thread, SyscallArgs const& args) {
  return transfer(thread, args, Access::kWrite);
}
int64_t do_write(Thread& thread, SyscallArgs const& args) {
  return transfer(thread, args, Access::kRead);
}

int64_t transfer_vector(Thread& thread, SyscallArgs const& args, Access access) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  IovecCopy vectors;
  if (int64_t const error = vectors.load(thread, addr_arg(args, 1), args.a[2], access); error != 0) {
    return error;
  }
  auto const call = [&] {
    return host_blocking(thread, static_cast<long>(args.nr), file->host_fd(), vectors.data(), vectors.size(), args.a[3],
                         args.a[4], args.a[5]);
  };
  if (access == Access::kRead) {
    // pwritev2's offset -1 is the file's own position.
    uint64_t const offset = args.nr == SYS_writev ? FileChange::kOwnPosition : args.a[3];
    int const mode = args.nr == SYS_pwritev2 && (args.a[5] & RWF_APPEND) != 0 ? O_APPEND : 0;
    return finish_io(thread, *file, write_change(thread, *file, offset, vectors.bytes(), mode).made(call));
  }
  return finish_io(thread, *file, call());
}

int64_t do_readv(Thread& thread, SyscallArgs const& args) {
  return transfer_vector(thread, args, Access::kWrite);
}
int64_t do_writev(Thread& thread, SyscallArgs const& args) {
  return transfer_vector(thread, args, Access::kRead);
}

int64_t do_lseek(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  if (auto* const directory = dynamic_cast<ProcDirectory*>(file.get())) {
    return directory->seek(static_cast<int64_t>(args.a[1]), int_arg(args, 2));
  }
  return host(SYS_lseek, file->host_fd(), args.a[1], int_arg(args, 2));
}

int64_t do_ftruncate(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  FileChangeGuard const change(
      thread,
      {.kind = FileChange::Kind::kResize, .fd = file->host_fd(), .file = file.get(), .offset = 0, .size = args.a[1]});
  return change.made([&] { return host(SYS_ftruncate, file->host_fd(), args.a[1]); });
}

int64_t do_fallocate(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  FileChangeGuard const change(thread, {.kind = FileChange::Kind::kAllocate,
                                        .fd = file->host_fd(),
                                        .file = file.get(),
                                        .offset = args.a[2],
                                        .size = args.a[3],
                                        .mode = int_arg(args, 1)});
  return change.made(
      [&] { return host_blocking(thread, SYS_fallocate, file->host_fd(), int_arg(args, 1), args.a[2], args.a[3]); });
}

// Flushing every file system of the host is more than a guest needs: its own files suffice.
int64_t do_sync(Thread& thread, SyscallArgs const&) {
  for (int const fd : thread.fds().open_numbers()) {
    FileRef const file = thread.fds().get(fd);
    if (file && file->kind() == OpenFile::Kind::kFile) host(SYS_fdatasync, file->host_fd());
  }
  return 0;
}

using namespace arg;
constexpr ArgSpec kVectorIn{Arg::kIovecIn};
constexpr ArgSpec kVectorOut{Arg::kIovecOut};
constexpr SyscallRow kRows[] = {
    {SYS_read, "read", {kFd, out(from_arg(2)), kNum}, do_read, Support::kFull, "", true},
    {SYS_write, "write", {kFd, in(from_arg(2)), kNum}, do_write, Support::kFull, "", true},
    {SYS_pread64, "pread64", {kFd, out(from_arg(2)), kNum, kNum}, do_read, Support::kFull, "", true},
    {SYS_pwrite64, "pwrite64", {kFd, in(from_arg(2)), kNum, kNum}, do_write, Support::kFull, "", true},
    {SYS_readv, "readv", {kFd, kVectorOut, kNum}, do_readv, Support::kFull, "", true},
    {SYS_writev, "writev", {kFd, kVectorIn, kNum}, do_writev, Support::kFull, "", true},
    {SYS_preadv, "preadv", {kFd, kVectorOut, kNum, kNum, kNum}, do_readv, Support::kFull, "", true},
    {SYS_pwritev, "pwritev", {kFd, kVectorIn, kNum, kNum, kNum}, do_writev, Support::kFull, "", true},
    {SYS_preadv2, "preadv2", {kFd, kVectorOut, kNum, kNum, kNum, kNum}, do_readv, Support::kFull, "", true},
    {SYS_pwritev2, "pwritev2", {kFd, kVectorIn, kNum, kNum, kNum, kNum}, do_writev, Support::kFull, "", true},
    {SYS_lseek, "lseek", {kFd, kNum, kNum}, do_lseek},
    {SYS_fsync, "fsync", {kFd}, pass_through, Support::kFull, "", true},
    {SYS_fdatasync, "fdatasync", {kFd}, pass_through, Support::kFull, "", true},
    {SYS_syncfs, "syncfs", {kFd}, pass_through, Support::kFull, "", true},
    {SYS_sync, "sync", {}, do_sync, Support::kPartial, "the guest's own open files only"},
    {SYS_sync_file_range, "sync_file_range", {kFd, kNum, kNum, kNum}, pass_through, Support::kFull, "", true},
    {SYS_ftruncate, "ftruncate", {kFd, kNum}, do_ftruncate},
    {SYS_fallocate, "fallocate", {kFd, kNum, kNum, kNum}, do_fallocate, Support::kFull, "", true},
    {SYS_fadvise64, "fadvise64", {kFd, kNum, kNum, kNum}, pass_through},
    {SYS_readahead, "readahead", {kFd, kNum, kNum}, pass_through},
};

}  // namespace

std::span<SyscallRow const> file_io_rows() {
  return kRows;
}

}  // namespace vmm
