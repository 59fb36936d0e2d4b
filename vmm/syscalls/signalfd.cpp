#include "vmm/syscalls/signalfd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include <cstring>

#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"

namespace vmm {

SignalFd::SignalFd(ProcessSignals& signals, int event_fd, uint64_t mask, bool non_blocking)
    : OpenFile(Kind::kSignalFd, event_fd, "anon_inode:[signalfd]"),
      nonblock(non_blocking),
      signals_(signals),
      mask_(mask) {
  signals_.watch(event_fd, mask);
}

SignalFd::~SignalFd() {
  signals_.unwatch(host_fd());
}

void SignalFd::set_mask(uint64_t mask) {
  mask_ = mask;
  signals_.watch(host_fd(), mask);
}

uint32_t SignalFd::asked_for(Thread& thread, uint32_t events) {
  signals_.watch_for(host_fd(), thread);
  return events & ~static_cast<uint32_t>(POLLOUT | POLLWRNORM | POLLWRBAND);
}

namespace {

signalfd_siginfo to_record(PendingSignal const& signal) {
  signalfd_siginfo record{};
  siginfo_t const& info = signal.info;
  record.ssi_signo = static_cast<uint32_t>(signal.signal);
  record.ssi_errno = info.si_errno;
  record.ssi_code = info.si_code;
  record.ssi_pid = static_cast<uint32_t>(info.si_pid);
  record.ssi_uid = info.si_uid;
  if (info.si_code == SI_QUEUE || info.si_code == SI_TIMER) {
    record.ssi_int = info.si_value.sival_int;
    record.ssi_ptr = reinterpret_cast<uint64_t>(info.si_value.sival_ptr);
  }
  return record;
}

}  // namespace

int64_t SignalFd::read(Thread& thread, void* to, uint64_t size) {
  uint64_t const room = size / sizeof(signalfd_siginfo);
  if (room == 0) return -EINVAL;
  signals_.watch_for(host_fd(), thread);
  uint64_t count = 0;
  while (true) {
    while (count < room) {
      auto const signal = signals_.take(thread, mask_);
      if (!signal) break;
      signalfd_siginfo const record = to_record(*signal);
      std::memcpy(static_cast<std::byte*>(to) + count++ * sizeof record, &record, sizeof record);
    }
    if (count != 0) return static_cast<int64_t>(count * sizeof(signalfd_siginfo));
    if (nonblock) return -EAGAIN;
    pollfd wait{host_fd(), POLLIN, 0};
    int64_t const ready = host_blocking(thread, SYS_ppoll, &wait, 1, nullptr, nullptr, 8);
    if (ready < 0) return ready;
  }
}

namespace {

int64_t do_signalfd(Thread& thread, SyscallArgs const& args) {
  int const fd = int_arg(args, 0);
  int const flags = args.nr == SYS_signalfd4 ? int_arg(args, 3) : 0;
  if (args.a[2] != 8 || (flags & ~(SFD_CLOEXEC | SFD_NONBLOCK)) != 0) return -EINVAL;
  uint64_t mask = 0;
  if (!thread.memory().read(addr_arg(args, 1), mask)) return -EFAULT;
  mask &= ~kUnblockable;
  if (fd != -1) {
    FileRef const file = thread.fds().get(fd);
    if (!file) return -EBADF;
    auto* const signals = dynamic_cast<SignalFd*>(file.get());
    if (signals == nullptr) return -EINVAL;
    signals->set_mask(mask);
    return fd;
  }
  int64_t const event = host(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (event < 0) return event;
  return thread.fds().install(
      std::make_shared<SignalFd>(thread.process().signals(), move_fd_high(static_cast<int>(event)), mask,
                                 (flags & SFD_NONBLOCK) != 0),
      (flags & SFD_CLOEXEC) != 0);
}

using namespace arg;
constexpr SyscallRow kRows[] = {
    {SYS_signalfd, "signalfd", {kNum, {Arg::kSigset}, kNum}, do_signalfd},
    {SYS_signalfd4, "signalfd4", {kNum, {Arg::kSigset}, kNum, kNum}, do_signalfd},
};

}  // namespace

std::span<SyscallRow const> signalfd_rows() {
  return kRows;
}

}  // namespace vmm
