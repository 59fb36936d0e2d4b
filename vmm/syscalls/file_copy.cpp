// Transfers between two descriptors: sendfile, splice, tee, vmsplice, copy_file_range.
#include <sys/syscall.h>

#include "vmm/file_journal.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/io_result.hpp"
#include "vmm/syscalls/iovec.hpp"

namespace vmm {

namespace {

// An offset argument, null allowed: read once, written back after the call.
struct Offset {
  GuestAddr at;
  int64_t value = 0;

  [[nodiscard]] bool load(Thread& thread) { return !at || thread.memory().read(at, value); }
  [[nodiscard]] int64_t* pointer() { return at ? &value : nullptr; }
  [[nodiscard]] bool store(Thread& thread) { return !at || write_out(thread, at, value); }
};

int64_t do_sendfile(Thread& thread, SyscallArgs const& args) {
  FileRef const to = thread.fds().get(int_arg(args, 0));
  FileRef const from = thread.fds().get(int_arg(args, 1));
  if (!to || !from) return -EBADF;
  Offset offset{addr_arg(args, 2)};
  if (!offset.load(thread)) return -EFAULT;
  thread.announce_out({offset.at, offset.at ? 8U : 0U});
  FileChangeGuard const change(thread, {.kind = FileChange::Kind::kWrite,
                                        .fd = to->host_fd(),
                                        .file = to.get(),
                                        .offset = FileChange::kOwnPosition,
                                        .size = args.a[3]});
  int64_t const n = change.made(
      [&] { return host_blocking(thread, SYS_sendfile, to->host_fd(), from->host_fd(), offset.pointer(), args.a[3]); });
  if (n >= 0 && !offset.store(thread)) return -EFAULT;
  return finish_io(thread, *to, n);
}

// splice and copy_file_range: (in, in offset, out, out offset, length, flags)
int64_t do_move(Thread& thread, SyscallArgs const& args) {
  FileRef const from = thread.fds().get(int_arg(args, 0));
  FileRef const to = thread.fds().get(int_arg(args, 2));
  if (!to || !from) return -EBADF;
  Offset in{addr_arg(args, 1)};
  Offset out{addr_arg(args, 3)};
  if (!in.load(thread) || !out.load(thread)) return -EFAULT;
  thread.announce_out({in.at, in.at ? 8U : 0U});
  thread.announce_out({out.at, out.at ? 8U : 0U});
  // How much a pipe will give is not known beforehand, nor when: callers do without, as for a file system that cannot.
  if (args.nr == SYS_splice && to->kind() == OpenFile::Kind::kFile && thread.process().file_journal != nullptr) {
    return -EINVAL;
  }
  FileChangeGuard const change(thread, {.kind = FileChange::Kind::kWrite,
                                        .fd = to->host_fd(),
                                        .file = to.get(),
                                        .offset = out.at ? static_cast<uint64_t>(out.value) : FileChange::kOwnPosition,
                                        .size = args.a[4]});
  int64_t const n = change.made([&] {
    return host_blocking(thread, static_cast<long>(args.nr), from->host_fd(), in.pointer(), to->host_fd(),
                         out.pointer(), args.a[4], args.a[5]);
  });
  if (n >= 0 && (!in.store(thread) || !out.store(thread))) return -EFAULT;
  return finish_io(thread, *to, n);
}

int64_t do_tee(Thread& thread, SyscallArgs const& args) {
  FileRef const from = thread.fds().get(int_arg(args, 0));
  FileRef const to = thread.fds().get(int_arg(args, 1));
  if (!to || !from) return -EBADF;
  return finish_io(thread, *to, host_blocking(thread, SYS_tee, from->host_fd(), to->host_fd(), args.a[2], args.a[3]));
}

// A write: the pages themselves are never put into the pipe, where they would outlive a change of
// the guest's memory.
int64_t do_vmsplice(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  if (file->kind() != OpenFile::Kind::kPipe) return -EBADF;
  IovecCopy vectors;
  if (int64_t const e = vectors.load(thread, addr_arg(args, 1), args.a[2], Access::kRead); e != 0) {
    return e;
  }
  return finish_io(thread, *file, host_blocking(thread, SYS_writev, file->host_fd(), vectors.data(), vectors.size()));
}

using namespace arg;
constexpr SyscallRow kRows[] = {
    {SYS_sendfile, "sendfile", {kFd, kFd, inout_or_null(8), kNum}, do_sendfile, Support::kFull, "", true},
    {SYS_splice,
     "splice",
     {kFd, inout_or_null(8), kFd, inout_or_null(8), kNum, kNum},
     do_move,
     Support::kFull,
     "",
     true},
    {SYS_copy_file_range,
     "copy_file_range",
     {kFd, inout_or_null(8), kFd, inout_or_null(8), kNum, kNum},
     do_move,
     Support::kFull,
     "",
     true},
    {SYS_tee, "tee", {kFd, kFd, kNum, kNum}, do_tee, Support::kFull, "", true},
    {SYS_vmsplice,
     "vmsplice",
     {kFd, {Arg::kIovecIn}, kNum, kNum},
     do_vmsplice,
     Support::kPartial,
     "copies; into a pipe only",
     true},
};

}  // namespace

std::span<SyscallRow const> file_copy_rows() {
  return kRows;
}

}  // namespace vmm
