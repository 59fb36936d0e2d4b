#include <array>

#include "vmm/syscall.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/iovec.hpp"

namespace vmm {

SyscallTable const& SyscallTable::instance() {
  static SyscallTable const table;
  return table;
}

SyscallTable::SyscallTable() {
  for (auto family :
       {memory_rows, thread_rows, signal_rows, time_rows, file_rows, fd_rows, socket_rows, poll_rows, process_rows}) {
    for (SyscallRow const& row : family()) {
      // The first family to name a call keeps it.
      if (row.nr < kMax && by_number_[row.nr] == nullptr) by_number_[row.nr] = &row;
    }
  }
  for (SyscallRow const* row : by_number_) {
    if (row != nullptr) dense_[count_++] = row;
  }
}

SyscallRow const* SyscallTable::find(uint64_t nr) const noexcept {
  return nr < kMax ? by_number_[nr] : nullptr;
}

std::span<SyscallRow const* const> SyscallTable::rows() const noexcept {
  return {dense_.data(), count_};
}

int64_t deny(Thread&, SyscallArgs const&) {
  return -EPERM;
}

int64_t pass_through(Thread& thread, SyscallArgs const& args) {
  SyscallRow const* const row = SyscallTable::instance().find(args.nr);
  if (row == nullptr) return -ENOSYS;
  std::array<uint64_t, 6> to{};
  std::array<FileRef, 6> files;  // keep the host fds open during the call
  IovecCopy iovecs;              // no call has two arrays that come this way
  for (size_t i = 0; i < 6; ++i) {
    ArgSpec const& spec = row->args[i];
    uint64_t const value = args.a[i];
    switch (spec.kind) {
      case Arg::kNone:
        break;
      case Arg::kInt:
        to[i] = value;
        break;
      case Arg::kFd:
      case Arg::kFdOrCwd:
        if (spec.kind == Arg::kFdOrCwd && static_cast<int>(value) == -100 /* AT_FDCWD */) {
          to[i] = host_arg(-100);
          break;
        }
        files[i] = thread.fds().get(static_cast<int>(value));
        if (!files[i]) return -EBADF;
        to[i] = static_cast<uint64_t>(files[i]->host_fd());
        break;
      case Arg::kIn:
      case Arg::kOut:
      case Arg::kInOut:
      case Arg::kSigset: {
        if (value == 0 && spec.nullable) break;
        uint64_t size = spec.kind == Arg::kSigset ? 8 : static_cast<uint64_t>(spec.size);
        if (spec.size < 0) size = args.a[static_cast<size_t>(-spec.size - 1)];
        bool const writes = spec.kind == Arg::kOut || spec.kind == Arg::kInOut;
        void* const host = thread.memory().buffer(GuestAddr(value), size, writes ? Access::kWrite : Access::kRead);
        if (host == nullptr) return -EFAULT;
        if (writes) thread.announce_out({GuestAddr(value), size});
        to[i] = host_arg(host);
        break;
      }
      case Arg::kIovecIn:
      case Arg::kIovecOut: {
        int64_t const error = iovecs.load(thread, GuestAddr(value), args.a[i + 1],
                                          spec.kind == Arg::kIovecIn ? Access::kRead : Access::kWrite);
        if (error != 0) return error;
        to[i] = host_arg(iovecs.data());
        break;
      }
      case Arg::kPath:
      case Arg::kMsghdr:
      case Arg::kFutex:
      case Arg::kAddr:
        return -ENOSYS;  // such a call needs a handler of its own
    }
  }
  if (row->may_block) {
    return host_blocking(thread, static_cast<long>(args.nr), to[0], to[1], to[2], to[3], to[4], to[5]);
  }
  return raw_host(static_cast<long>(args.nr), to[0], to[1], to[2], to[3], to[4], to[5]);
}

}  // namespace vmm
