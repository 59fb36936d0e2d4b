// sendto, recvfrom, sendmsg, recvmsg and the calls for several messages. A msghdr is copied in once
// and checked on the copy.
#include <linux/time_types.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <ctime>

#include "vmm/process.hpp"
#include "vmm/syscalls/control_message.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/io_result.hpp"
#include "vmm/syscalls/iovec.hpp"
#include "vmm/syscalls/socket_address.hpp"

namespace vmm {

namespace {

constexpr uint64_t kMessageHeader = sizeof(msghdr);
static_assert(kMessageHeader == 56 && sizeof(mmsghdr) == 64);

int64_t finish(Thread& thread, OpenFile const& file, int64_t result, int flags) {
  if (result == -EPIPE && (flags & MSG_NOSIGNAL) == 0 && sends_sigpipe(file)) raise_sigpipe(thread);
  return file.socket_timeout ? restart_as(result, kRestartNoHand) : result;
}

int64_t do_sendto(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  int const flags = int_arg(args, 3);
  void* const data = thread.memory().buffer(addr_arg(args, 1), args.a[2], Access::kRead);
  if (data == nullptr) return -EFAULT;
  SocketAddress address;
  if (addr_arg(args, 4)) {
    int64_t error = read_address(thread, addr_arg(args, 4), static_cast<uint32_t>(args.a[5]), address);
    if (error == 0) error = check_unix_path(thread, address, false);
    if (error != 0) return error;
  }
  return finish(thread, *file,
                host_blocking(thread, SYS_sendto, file->host_fd(), data, args.a[2], flags | MSG_NOSIGNAL,
                              address.size != 0 ? &address.bytes : nullptr, address.size),
                flags);
}

int64_t do_recvfrom(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  GuestAddr const to = addr_arg(args, 1), name_at = addr_arg(args, 4), size_at = addr_arg(args, 5);
  void* const data = thread.memory().buffer(to, args.a[2], Access::kWrite);
  if (data == nullptr) return -EFAULT;
  int room = 0;
  if (name_at && !thread.memory().read(size_at, room)) return -EFAULT;
  if (room < 0) return -EINVAL;
  if (name_at && !thread.memory().contains(name_at, static_cast<uint64_t>(room))) return -EFAULT;
  thread.announce_out({to, args.a[2]});
  thread.announce_out({name_at, name_at ? static_cast<uint64_t>(room) : 0});
  SocketAddress address;
  address.size = sizeof address.bytes;
  int64_t const n = host_blocking(thread, SYS_recvfrom, file->host_fd(), data, args.a[2], int_arg(args, 3),
                                  &address.bytes, &address.size);
  if (n < 0) return finish(thread, *file, n, MSG_NOSIGNAL);
  int64_t const error = write_address(thread, name_at, size_at, address);
  return error != 0 ? error : n;
}

// A guest's msghdr and what it points to.
struct MessageCopy {
  msghdr guest{};
  SocketAddress name;
  IovecCopy data;
  std::vector<std::byte> control;
  std::vector<FileRef> files;
  msghdr host{};

  int64_t load(Thread& thread, GuestAddr at, Access access) {
    if (!thread.memory().read(at, guest)) return -EFAULT;
    if (int64_t const e =
            data.load(thread, GuestAddr(reinterpret_cast<uint64_t>(guest.msg_iov)), guest.msg_iovlen, access);
        e != 0) {
      return e == -EINVAL && guest.msg_iovlen > UIO_MAXIOV ? -EMSGSIZE : e;
    }
    host.msg_iov = data.data();
    host.msg_iovlen = data.size();
    if (guest.msg_controllen > kMaxControl && access == Access::kRead) return -ENOBUFS;
    control.resize(guest.msg_control == nullptr ? 0 : std::min<size_t>(guest.msg_controllen, kMaxControl));
    return 0;
  }
  void set_control() {
    host.msg_control = control.empty() ? nullptr : control.data();
    host.msg_controllen = control.size();
  }
};

int64_t send_message(Thread& thread, OpenFile const& file, GuestAddr at, int flags) {
  MessageCopy message;
  if (int64_t const e = message.load(thread, at, Access::kRead); e != 0) return e;
  if (message.guest.msg_name != nullptr && message.guest.msg_namelen != 0) {
    uint64_t const size = std::min<uint64_t>(message.guest.msg_namelen, sizeof(sockaddr_storage));
    if (static_cast<int>(message.guest.msg_namelen) < 0) return -EINVAL;
    int64_t e = read_address(thread, GuestAddr(reinterpret_cast<uint64_t>(message.guest.msg_name)), size, message.name);
    if (e == 0) e = check_unix_path(thread, message.name, false);
    if (e != 0) return e;
    message.host.msg_name = &message.name.bytes;
    message.host.msg_namelen = message.name.size;
  }
  if (!message.control.empty()) {
    GuestAddr const from(reinterpret_cast<uint64_t>(message.guest.msg_control));
    if (!thread.memory().read(from, message.control.data(), message.control.size())) {
      return -EFAULT;
    }
    if (int64_t const e = control_to_host(thread, message.control, message.files); e != 0) return e;
  }
  message.set_control();
  return finish(thread, file, host_blocking(thread, SYS_sendmsg, file.host_fd(), &message.host, flags | MSG_NOSIGNAL),
                flags);
}

int64_t receive_message(Thread& thread, OpenFile const& file, GuestAddr at, int flags) {
  MessageCopy message;
  if (int64_t const e = message.load(thread, at, Access::kWrite); e != 0) return e;
  AddressSpace& memory = thread.memory();
  GuestAddr const name_at(reinterpret_cast<uint64_t>(message.guest.msg_name));
  GuestAddr const control_at(reinterpret_cast<uint64_t>(message.guest.msg_control));
  if (name_at && static_cast<int>(message.guest.msg_namelen) < 0) return -EINVAL;
  if (name_at && !memory.contains(name_at, message.guest.msg_namelen)) return -EFAULT;
  if (!memory.contains(control_at, message.control.size()) && !message.control.empty()) {
    return -EFAULT;
  }
  thread.announce_out({at, kMessageHeader});
  if (name_at) thread.announce_out({name_at, message.guest.msg_namelen});
  thread.announce_out({control_at, message.control.size()});
  if (name_at) {
    message.host.msg_name = &message.name.bytes;
    message.host.msg_namelen = sizeof message.name.bytes;
  }
  message.set_control();
  int64_t const n = host_blocking(thread, SYS_recvmsg, file.host_fd(), &message.host, flags | MSG_CMSG_CLOEXEC);
  if (n < 0) return finish(thread, file, n, MSG_NOSIGNAL);
  int out_flags = message.host.msg_flags & ~MSG_CMSG_CLOEXEC;
  if ((flags & MSG_CMSG_CLOEXEC) != 0) out_flags |= MSG_CMSG_CLOEXEC;
  std::vector<int> installed;
  message.control.resize(std::min(message.control.size(), message.host.msg_controllen));
  control_to_guest(thread, message.control, (flags & MSG_CMSG_CLOEXEC) != 0, out_flags, installed);
  bool ok = true;
  if (name_at) {
    uint64_t const size =
        std::min<uint64_t>({message.guest.msg_namelen, message.host.msg_namelen, sizeof message.name.bytes});
    ok = write_out(thread, name_at, &message.name.bytes, size) &&
         write_out(thread, at + offsetof(msghdr, msg_namelen), message.host.msg_namelen);
  }
  if (!message.control.empty()) {
    ok = ok && write_out(thread, control_at, message.control.data(), message.control.size());
  }
  size_t const control_size = message.control.size();
  ok = ok && write_out(thread, at + offsetof(msghdr, msg_controllen), control_size) &&
       write_out(thread, at + offsetof(msghdr, msg_flags), out_flags);
  if (ok) return n;
  for (int const fd : installed) thread.fds().close(fd);
  return -EFAULT;
}

int64_t do_sendmsg(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  return file ? send_message(thread, *file, addr_arg(args, 1), int_arg(args, 2)) : -EBADF;
}
int64_t do_recvmsg(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  return file ? receive_message(thread, *file, addr_arg(args, 1), int_arg(args, 2)) : -EBADF;
}

// `one` for each element of an mmsghdr array: how many were done, or the first one's error.
template <class One>
int64_t for_messages(Thread& thread, GuestAddr array, uint32_t count, One one) {
  uint32_t done = 0;
  for (; done < std::min<uint32_t>(count, UIO_MAXIOV); ++done) {
    GuestAddr const at = array + uint64_t{done} * sizeof(mmsghdr);
    int64_t const n = one(at, done);
    if (n < 0) return done != 0 ? done : n;
    if (!write_out(thread, at + kMessageHeader, static_cast<uint32_t>(n))) {
      return done != 0 ? done : -EFAULT;
    }
  }
  return done;
}

int64_t do_sendmmsg(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  return for_messages(thread, addr_arg(args, 1), static_cast<uint32_t>(args.a[2]),
                      [&](GuestAddr at, uint32_t) { return send_message(thread, *file, at, int_arg(args, 3)); });
}

int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

int64_t do_recvmmsg(Thread& thread, SyscallArgs const& args) {
  FileRef const file = thread.fds().get(int_arg(args, 0));
  if (!file) return -EBADF;
  int const flags = int_arg(args, 3);
  GuestAddr const timeout_at = addr_arg(args, 4);
  timespec timeout{};
  if (timeout_at && !thread.memory().read(timeout_at, timeout)) return -EFAULT;
  if (timeout.tv_sec < 0 || timeout.tv_nsec < 0 || timeout.tv_nsec >= 1'000'000'000) return -EINVAL;
  int64_t const deadline =
      monotonic_ns() + std::min<int64_t>(timeout.tv_sec, 1 << 30) * 1'000'000'000 + timeout.tv_nsec;
  int64_t const result = for_messages(thread, addr_arg(args, 1), static_cast<uint32_t>(args.a[2]),
                                      [&](GuestAddr at, uint32_t done) -> int64_t {
                                        // As Linux: the time is looked at between messages only.
                                        if (timeout_at && done != 0 && monotonic_ns() >= deadline) return -EAGAIN;
                                        int const wait = done != 0 && (flags & MSG_WAITFORONE) != 0 ? MSG_DONTWAIT : 0;
                                        return receive_message(thread, *file, at, (flags & ~MSG_WAITFORONE) | wait);
                                      });
  if (timeout_at && result > 0) {
    int64_t const left = std::max<int64_t>(0, deadline - monotonic_ns());
    timeout = {left / 1'000'000'000, left % 1'000'000'000};
    if (!write_out(thread, timeout_at, timeout)) return -EFAULT;
  }
  return result;
}

using namespace arg;
constexpr ArgSpec kMessage{Arg::kMsghdr, kMessageHeader};
constexpr ArgSpec kMessages{Arg::kMsghdr, sizeof(mmsghdr)};
constexpr SyscallRow kRows[] = {
    {SYS_sendto,
     "sendto",
     {kFd, in(from_arg(2)), kNum, kNum, in_or_null(from_arg(5)), kNum},
     do_sendto,
     Support::kFull,
     "",
     true},
    {SYS_recvfrom,
     "recvfrom",
     {kFd, out(from_arg(2)), kNum, kNum, out_or_null(2), inout_or_null(4)},
     do_recvfrom,
     Support::kFull,
     "",
     true},
    {SYS_sendmsg, "sendmsg", {kFd, kMessage, kNum}, do_sendmsg, Support::kFull, "", true},
    {SYS_recvmsg, "recvmsg", {kFd, kMessage, kNum}, do_recvmsg, Support::kFull, "", true},
    {SYS_sendmmsg, "sendmmsg", {kFd, kMessages, kNum, kNum}, do_sendmmsg, Support::kFull, "", true},
    {SYS_recvmmsg, "recvmmsg", {kFd, kMessages, kNum, kNum, inout_or_null(16)}, do_recvmmsg, Support::kFull, "", true},
};

}  // namespace

std::span<SyscallRow const> socket_message_rows() {
  return kRows;
}

}  // namespace vmm
