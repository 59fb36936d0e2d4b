// poll, ppoll, select, pselect6: the sets are copied in and their numbers translated.
#include <poll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <climits>

#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/wait_mask.hpp"
#include "vmm/syscalls/wait_time.hpp"

namespace vmm {

namespace {

// Waits on `polled`, whose fds are host fds (-1: skipped). `ready`: entries that are so already.
int64_t host_poll(Thread& thread, std::vector<pollfd>& polled, WaitTime& time, bool ready) {
  timespec none{};
  return host_blocking(thread, SYS_ppoll, polled.data(), polled.size(), ready ? &none : time.pointer(), nullptr, 8);
}

short asked_for(OpenFile& file, Thread& thread, short events) {
  return static_cast<short>(file.asked_for(thread, static_cast<uint16_t>(events)));
}

int64_t poll_fds(Thread& thread, GuestAddr at, uint64_t count, WaitTime& time) {
  if (count > thread.fds().limit()) return -EINVAL;
  uint64_t const bytes = count * sizeof(pollfd);
  std::vector<pollfd> guest(count);
  if (count != 0 && !thread.memory().read(at, guest.data(), bytes)) return -EFAULT;
  std::vector<pollfd> polled = guest;
  std::vector<FileRef> files(count);
  int64_t bad = 0;
  for (uint64_t i = 0; i < count; ++i) {
    guest[i].revents = 0;
    if (guest[i].fd < 0) continue;
    files[i] = thread.fds().get(guest[i].fd);
    polled[i].fd = files[i] ? files[i]->host_fd() : -1;
    if (files[i]) {
      polled[i].events = asked_for(*files[i], thread, guest[i].events);
    } else {
      guest[i].revents = POLLNVAL;
      ++bad;
    }
  }
  thread.announce_out({at, bytes});
  int64_t const result = time.restart(host_poll(thread, polled, time, bad != 0));
  if (result < 0) return result;
  for (uint64_t i = 0; i < count; ++i) {
    if (files[i]) guest[i].revents = polled[i].revents;
  }
  // As the kernel: revents only; another thread may have changed the rest meanwhile.
  for (uint64_t i = 0; i < count; ++i) {
    if (!write_out(thread, at + i * sizeof(pollfd) + offsetof(pollfd, revents), guest[i].revents)) {
      return -EFAULT;
    }
  }
  return result + bad;
}

int64_t do_poll(Thread& thread, SyscallArgs const& args) {
  int const ms = int_arg(args, 2);
  WaitTime time(thread, ms < 0 ? -1 : int64_t{ms} * 1'000'000);
  return poll_fds(thread, addr_arg(args, 0), static_cast<uint32_t>(args.a[1]), time);
}

// A timespec argument, null: for ever. False: -EFAULT or -EINVAL in `error`.
bool read_time(Thread& thread, GuestAddr at, int64_t& ns, int64_t& error) {
  ns = -1;
  if (!at) return true;
  timespec time{};
  error = thread.memory().read(at, time) ? -EINVAL : -EFAULT;
  if (error == -EINVAL) ns = checked_ns(time);
  return ns >= 0;
}

// The kernel tells the time left; glibc hides it. A read-only timespec is no error.
void write_time_left(Thread& thread, GuestAddr at, WaitTime const& time, int64_t result) {
  if (!at || result == kRestartBlock || result == kRestartNoHand) return;
  timespec const left = time.left();
  if (!write_out(thread, at, left)) return;
}

int64_t do_ppoll(Thread& thread, SyscallArgs const& args) {
  int64_t ns = -1, error = 0;
  if (!read_time(thread, addr_arg(args, 2), ns, error)) return error;
  WaitMask mask;
  if (error = mask.load(thread, addr_arg(args, 3), args.a[4]); error != 0) return error;
  WaitTime time(thread, ns);
  mask.apply(thread);
  int64_t const result = poll_fds(thread, addr_arg(args, 0), static_cast<uint32_t>(args.a[1]), time);
  write_time_left(thread, addr_arg(args, 2), time, result);
  return mask.end(thread, result);
}

constexpr uint64_t kBits = 8 * sizeof(uint64_t);
constexpr short kReadable = POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR;
constexpr short kWritable = POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR;
constexpr short kExceptional = POLLPRI;

int64_t select_fds(Thread& thread, int count, std::array<GuestAddr, 3> at, WaitTime& time) {
  if (count < 0) return -EINVAL;
  auto const fds = std::min<uint64_t>(static_cast<uint64_t>(count), thread.fds().limit());
  uint64_t const words = (fds + kBits - 1) / kBits;
  std::array<std::vector<uint64_t>, 3> sets;
  for (size_t s = 0; s < 3; ++s) {
    sets[s].resize(words);
    if (at[s] && words != 0 && !thread.memory().read(at[s], sets[s].data(), words * 8)) {
      return -EFAULT;
    }
    if (at[s]) thread.announce_out({at[s], words * 8});
  }
  constexpr std::array<short, 3> kWanted{POLLIN | POLLRDNORM | POLLRDBAND, POLLOUT | POLLWRNORM | POLLWRBAND, POLLPRI};
  std::vector<pollfd> polled;
  std::vector<FileRef> files;
  std::vector<uint64_t> numbers;
  for (uint64_t fd = 0; fd < fds; ++fd) {
    short events = 0;
    for (size_t s = 0; s < 3; ++s) {
      if ((sets[s][fd / kBits] >> (fd % kBits) & 1) != 0) {
        events = static_cast<short>(events | kWanted[s]);
      }
    }
    if (events == 0) continue;
    FileRef file = thread.fds().get(static_cast<int>(fd));
    if (!file) return -EBADF;
    polled.push_back({file->host_fd(), asked_for(*file, thread, events), 0});
    files.push_back(std::move(file));
    numbers.push_back(fd);
  }
  int64_t result = time.restart(host_poll(thread, polled, time, false));
  if (result < 0) return result;
  std::array<std::vector<uint64_t>, 3> out;
  for (auto& set : out) set.resize(words);
  constexpr std::array<short, 3> kMeans{kReadable, kWritable, kExceptional};
  result = 0;
  for (size_t i = 0; i < polled.size(); ++i) {
    uint64_t const word = numbers[i] / kBits, bit = UINT64_C(1) << (numbers[i] % kBits);
    for (size_t s = 0; s < 3; ++s) {
      if ((sets[s][word] & bit) != 0 && (polled[i].revents & kMeans[s]) != 0) {
        out[s][word] |= bit;
        ++result;
      }
    }
  }
  for (size_t s = 0; s < 3; ++s) {
    if (at[s] && words != 0 && !write_out(thread, at[s], out[s].data(), words * 8)) {
      return -EFAULT;
    }
  }
  return result;
}

int64_t do_select(Thread& thread, SyscallArgs const& args) {
  GuestAddr const time_at = addr_arg(args, 4);
  int64_t ns = -1;
  if (time_at) {
    timeval value{};
    if (!thread.memory().read(time_at, value)) return -EFAULT;
    if (value.tv_sec < 0 || value.tv_usec < 0) return -EINVAL;
    ns = checked_ns({value.tv_sec + value.tv_usec / 1'000'000, value.tv_usec % 1'000'000 * 1000});
  }
  WaitTime time(thread, ns);
  int64_t const result =
      select_fds(thread, int_arg(args, 0), {addr_arg(args, 1), addr_arg(args, 2), addr_arg(args, 3)}, time);
  if (time_at && result >= 0) {
    timespec const left = time.left();
    timeval const value{left.tv_sec, left.tv_nsec / 1000};
    if (!write_out(thread, time_at, value)) return result;
  }
  return result;
}

int64_t do_pselect6(Thread& thread, SyscallArgs const& args) {
  int64_t ns = -1, error = 0;
  if (!read_time(thread, addr_arg(args, 4), ns, error)) return error;
  WaitMask mask;
  if (GuestAddr const pair_at = addr_arg(args, 5)) {
    struct {
      uint64_t mask, size;
    } pair{};
    if (!thread.memory().read(pair_at, pair)) return -EFAULT;
    if (error = mask.load(thread, GuestAddr(pair.mask), pair.size); error != 0) return error;
  }
  WaitTime time(thread, ns);
  mask.apply(thread);
  int64_t const result =
      select_fds(thread, int_arg(args, 0), {addr_arg(args, 1), addr_arg(args, 2), addr_arg(args, 3)}, time);
  write_time_left(thread, addr_arg(args, 4), time, result);
  return mask.end(thread, result);
}

using namespace arg;
constexpr ArgSpec kSet{Arg::kInOut, 8, true};
constexpr SyscallRow kRows[] = {
    {SYS_poll, "poll", {inout(8), kNum, kNum}, do_poll, Support::kFull, "", true},
    {SYS_ppoll,
     "ppoll",
     {inout(8), kNum, in_or_null(16), {Arg::kSigset, 8, true}, kNum},
     do_ppoll,
     Support::kFull,
     "",
     true},
    {SYS_select, "select", {kNum, kSet, kSet, kSet, inout_or_null(16)}, do_select, Support::kFull, "", true},
    {SYS_pselect6,
     "pselect6",
     {kNum, kSet, kSet, kSet, in_or_null(16), in_or_null(16)},
     do_pselect6,
     Support::kFull,
     "",
     true},
};

}  // namespace

std::span<SyscallRow const> wait_rows() {
  return kRows;
}

std::span<SyscallRow const> poll_rows() {
  static std::vector<SyscallRow> const rows = join_rows({wait_rows(), epoll_rows()});
  return rows;
}

}  // namespace vmm
