#include "runtime/call_filter.hpp"

#include <linux/futex.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/address_space.hpp"
#include "vmm/clock.hpp"

namespace vmsrs::runtime {
namespace {

constexpr uint64_t kMaxVectors = 1024;

constexpr CallRule truth(uint16_t nr) {
  return {nr, CallAnswer::kTrue};
}
constexpr CallRule done(uint16_t nr) {
  return {nr, CallAnswer::kValue, 0};
}
constexpr CallRule refused(uint16_t nr, int64_t error) {
  return {nr, CallAnswer::kValue, -error};
}

constexpr auto kRules = [] {
  std::array rules = {
      // Nobody can tell that they were made.
      truth(SYS_getpid), truth(SYS_gettid), truth(SYS_getppid), truth(SYS_getuid), truth(SYS_geteuid),
      truth(SYS_getgid), truth(SYS_getegid), truth(SYS_getpgrp), truth(SYS_sched_yield),
      CallRule{SYS_clock_gettime, CallAnswer::kClock}, CallRule{SYS_gettimeofday, CallAnswer::kTimeval},
      CallRule{SYS_time, CallAnswer::kSeconds}, CallRule{SYS_getrandom, CallAnswer::kRandom},
      CallRule{SYS_brk, CallAnswer::kBreak}, CallRule{SYS_rt_sigprocmask, CallAnswer::kMask},
      // Output: all of it has left, and goes nowhere.
      CallRule{SYS_write, CallAnswer::kCount, 2}, CallRule{SYS_pwrite64, CallAnswer::kCount, 2},
      CallRule{SYS_sendto, CallAnswer::kCount, 2}, CallRule{SYS_sendfile, CallAnswer::kCount, 3},
      CallRule{SYS_writev, CallAnswer::kVectors}, CallRule{SYS_pwritev, CallAnswer::kVectors},
      CallRule{SYS_pwritev2, CallAnswer::kVectors}, CallRule{SYS_sendmsg, CallAnswer::kMessage},
      // Input is at its end: what is there stays there for whoever reads on.
      done(SYS_read), done(SYS_pread64), done(SYS_readv), done(SYS_preadv), done(SYS_preadv2), done(SYS_recvfrom),
      done(SYS_recvmsg), done(SYS_poll), done(SYS_ppoll), done(SYS_select), done(SYS_pselect6), done(SYS_epoll_wait),
      done(SYS_epoll_pwait),
      // As if done: clean-up must be able to go its way.
      done(SYS_close), done(SYS_close_range), done(SYS_shutdown), done(SYS_munmap), done(SYS_madvise),
      done(SYS_mprotect), done(SYS_fsync), done(SYS_fdatasync), done(SYS_flock), done(SYS_setsockopt),
      done(SYS_epoll_ctl), done(SYS_nanosleep), done(SYS_clock_nanosleep), done(SYS_set_robust_list),
      done(SYS_membarrier), CallRule{SYS_futex, CallAnswer::kFutex},
      // Programs are prepared for these errors.
      refused(SYS_mmap, ENOMEM), refused(SYS_mremap, ENOMEM), refused(SYS_clone, EAGAIN), refused(SYS_clone3, ENOSYS),
      refused(SYS_rseq, ENOSYS), refused(SYS_ioctl, ENOTTY), refused(SYS_lseek, ESPIPE),
      // Behind these nothing is left to run.
      CallRule{SYS_exit, CallAnswer::kEndsRun}, CallRule{SYS_exit_group, CallAnswer::kEndsRun},
      CallRule{SYS_tgkill, CallAnswer::kEndsRun}, CallRule{SYS_tkill, CallAnswer::kEndsRun},
      CallRule{SYS_rt_sigreturn, CallAnswer::kEndsRun}};
  std::ranges::sort(rules, {}, &CallRule::nr);
  return rules;
}();

int64_t sum_of(vmm::View const& view, uint64_t at, uint64_t count) {
  if (count > kMaxVectors) return -EINVAL;
  uint64_t sum = 0;
  for (uint64_t i = 0; i < count; ++i) {
    iovec part{};
    if (!view.read(vmm::GuestAddr(at + i * sizeof part), part)) return -EFAULT;
    sum += part.iov_len;
  }
  return static_cast<int64_t>(std::min<uint64_t>(sum, 0x7ffff000));
}

int64_t message(vmm::View const& view, uint64_t at) {
  msghdr header{};
  if (!view.read(vmm::GuestAddr(at), header)) return -EFAULT;
  return sum_of(view, reinterpret_cast<uint64_t>(header.msg_iov), header.msg_iovlen);
}

int64_t clock_into(vmm::Thread& thread, vmm::View& view, clockid_t clock, uint64_t at) {
  timespec now{};
  if (int const r = vmm::read_guest_clock(thread, clock, now); r != 0) return r;
  return view.write(vmm::GuestAddr(at), now) ? 0 : -EFAULT;
}

int64_t timeval_into(vmm::Thread& thread, vmm::View& view, uint64_t at) {
  timespec now{};
  if (int const r = vmm::read_guest_clock(thread, CLOCK_REALTIME, now); r != 0) return r;
  timeval const value{now.tv_sec, now.tv_nsec / 1000};
  return at == 0 || view.write(vmm::GuestAddr(at), value) ? 0 : -EFAULT;
}

int64_t seconds(vmm::Thread& thread, vmm::View& view, uint64_t at) {
  timespec now{};
  if (int const r = vmm::read_guest_clock(thread, CLOCK_REALTIME, now); r != 0) return r;
  return at == 0 || view.write(vmm::GuestAddr(at), int64_t{now.tv_sec}) ? now.tv_sec : -EFAULT;
}

int64_t random_into(vmm::View& view, uint64_t at, uint64_t size) {
  std::array<std::byte, 256> bytes{};
  ssize_t const n = getrandom(bytes.data(), std::min<uint64_t>(size, bytes.size()), GRND_NONBLOCK);
  if (n < 0) return -errno;
  return view.write(vmm::GuestAddr(at), bytes.data(), static_cast<uint64_t>(n)) ? n : -EFAULT;
}

// A lock's word becomes 0 (free), a semaphore's or an event's becomes 1 (there): what is waited for has come.
int64_t futex(vmm::View& view, vmm::SyscallArgs const& args) {
  switch (static_cast<int>(args.a[1]) & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET: {
      uint32_t word = 0;
      if (!view.read(vmm::GuestAddr(args.a[0]), word)) return -EFAULT;
      if (word != static_cast<uint32_t>(args.a[2])) return -EAGAIN;
      return view.write(vmm::GuestAddr(args.a[0]), uint32_t{word == 0}) ? 0 : -EFAULT;
    }
    case FUTEX_LOCK_PI:
    case FUTEX_UNLOCK_PI:
    case FUTEX_TRYLOCK_PI:
      return -ENOSYS;
    default:
      return 0;
  }
}

}  // namespace

std::span<CallRule const> call_rules() {
  return kRules;
}

FilteredCall filter_call(vmm::Thread& thread, vmm::View& view, vmm::SyscallArgs const& args) {
  auto const rule = std::ranges::lower_bound(kRules, args.nr, {}, [](CallRule const& r) { return uint64_t{r.nr}; });
  if (rule == kRules.end() || rule->nr != args.nr) return {.result = -EPERM};
  switch (rule->answer) {
    case CallAnswer::kTrue:
      return {.truthful = true};
    case CallAnswer::kClock:
      return {.truthful = true, .result = clock_into(thread, view, static_cast<clockid_t>(args.a[0]), args.a[1])};
    case CallAnswer::kTimeval:
      return {.truthful = true, .result = timeval_into(thread, view, args.a[0])};
    case CallAnswer::kSeconds:
      return {.truthful = true, .result = seconds(thread, view, args.a[0])};
    case CallAnswer::kRandom:
      return {.truthful = true, .result = random_into(view, args.a[0], args.a[1])};
    case CallAnswer::kBreak:
      return {.result = thread.memory().brk({})};
    case CallAnswer::kMask: {
      uint64_t const mask = thread.signals().blocked.load();
      bool const well = args.a[2] == 0 || view.write(vmm::GuestAddr(args.a[2]), mask);
      return {.result = well ? 0 : -EFAULT};
    }
    case CallAnswer::kValue:
      return {.result = rule->value};
    case CallAnswer::kCount:
      return {.result = static_cast<int64_t>(std::min<uint64_t>(args.a[static_cast<size_t>(rule->value)], 0x7ffff000))};
    case CallAnswer::kVectors:
      return {.result = sum_of(view, args.a[1], args.a[2])};
    case CallAnswer::kMessage:
      return {.result = message(view, args.a[1])};
    case CallAnswer::kFutex:
      return {.result = futex(view, args)};
    case CallAnswer::kEndsRun:
      return {.ends_run = true};
  }
  return {.result = -EPERM};
}

}  // namespace vmsrs::runtime
