#include "runtime/held_output.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <cerrno>
#include <climits>

#include "vmm/address_space.hpp"

namespace vmsrs::runtime {
namespace {

struct Part {
  uint64_t address, size;
};

// The kernel's struct user_msghdr (socket(7) of the guest's ABI).
struct GuestMsghdr {
  uint64_t name;
  uint32_t name_size, pad1;
  uint64_t parts, count, control, control_size;
  uint32_t flags, pad2;
};

bool read_parts(vmm::AddressSpace& memory, uint64_t at, uint64_t count, std::vector<Part>& parts) {
  if (count > IOV_MAX) return false;
  parts.resize(count);
  return memory.read(vmm::GuestAddr(at), parts.data(), count * sizeof(Part));
}

bool is_stream_socket(vmm::OpenFile const& file) {
  if (file.kind() != vmm::OpenFile::Kind::kSocket) return false;
  int type = 0;
  socklen_t size = sizeof type;
  return getsockopt(file.host_fd(), SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

// Where the bytes of a send are; nothing: not a send that can be held.
std::optional<std::vector<Part>> parts_of(vmm::AddressSpace& memory, vmm::SyscallArgs const& args) {
  constexpr uint64_t kPlainFlags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE;
  std::vector<Part> parts;
  switch (args.nr) {
    case SYS_write:
      return std::vector<Part>{{args.a[1], args.a[2]}};
    case SYS_sendto:
      if (args.a[4] != 0 || (args.a[3] & ~kPlainFlags) != 0) return std::nullopt;
      return std::vector<Part>{{args.a[1], args.a[2]}};
    case SYS_writev:
      if (!read_parts(memory, args.a[1], args.a[2], parts)) return std::nullopt;
      return parts;
    case SYS_sendmsg: {
      GuestMsghdr header{};
      if ((args.a[2] & ~kPlainFlags) != 0 || !memory.read(vmm::GuestAddr(args.a[1]), header)) return std::nullopt;
      if (header.name != 0 || header.control_size != 0) return std::nullopt;
      if (!read_parts(memory, header.parts, header.count, parts)) return std::nullopt;
      return parts;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

bool waits_for_peer(uint64_t nr) {
  return nr == SYS_read || nr == SYS_readv || nr == SYS_recvfrom || nr == SYS_recvmsg || nr == SYS_recvmmsg ||
         nr == SYS_poll || nr == SYS_ppoll || nr == SYS_select || nr == SYS_pselect6 || nr == SYS_epoll_wait ||
         nr == SYS_epoll_pwait || nr == SYS_epoll_pwait2 || nr == SYS_connect || nr == SYS_accept ||
         nr == SYS_accept4 || nr == SYS_shutdown;
}

std::optional<int64_t> HeldOutput::take(vmm::Thread& thread, vmm::SyscallArgs const& args, uint64_t number) {
  vmm::FileRef file = thread.fds().get(static_cast<int>(args.a[0]));
  if (!file || !is_stream_socket(*file)) return std::nullopt;
  auto const parts = parts_of(thread.memory(), args);
  if (!parts) return std::nullopt;
  uint64_t total = 0;
  for (Part const& part : *parts) {
    if (part.size > kMaxHeldBytes || (total += part.size) > kMaxHeldBytes - held_) return std::nullopt;
  }
  Item item{std::move(file), std::vector<std::byte>(total), 0, number};
  uint64_t at = 0;
  for (Part const& part : *parts) {
    if (part.size == 0) continue;
    if (!thread.memory().read(vmm::GuestAddr(part.address), item.bytes.data() + at, part.size)) return -EFAULT;
    at += part.size;
  }
  held_ += total;
  items_.push_back(std::move(item));
  return static_cast<int64_t>(total);
}

int64_t HeldOutput::flush(vmm::Thread& thread) {
  while (!items_.empty()) {
    Item& item = items_.front();
    while (item.sent < item.bytes.size()) {
      int const fd = item.file->host_fd();
      int64_t const n = thread.block_in(SYS_sendto, static_cast<uint64_t>(fd),
                                        reinterpret_cast<uint64_t>(item.bytes.data() + item.sent),
                                        item.bytes.size() - item.sent, MSG_NOSIGNAL);
      if (n == vmm::kRestartSys) return n;
      if (n == -EAGAIN) {  // the guest's own O_NONBLOCK: what it was told was sent must not be lost
        pollfd room{fd, POLLOUT, 0};
        int64_t const r = thread.block_in(SYS_poll, reinterpret_cast<uint64_t>(&room), 1, static_cast<uint64_t>(-1));
        if (r == vmm::kRestartSys) return r;
        continue;
      }
      if (n < 0) break;
      item.sent += static_cast<uint64_t>(n);
    }
    items_.erase(items_.begin());
  }
  held_ = 0;
  return 0;
}

void HeldOutput::drop_from(uint64_t number) {
  std::erase_if(items_, [&](Item const& item) {
    if (item.number < number) return false;
    dropped_ += item.bytes.size();
    held_ -= item.bytes.size();
    return true;
  });
}

std::vector<HeldOutput::Saved> HeldOutput::save(vmm::FdTable const& fds) const {
  std::vector<Saved> saved;
  for (Item const& item : items_) {
    for (int const number : fds.open_numbers()) {
      if (fds.get(number) != item.file) continue;
      saved.push_back({number, item.bytes, item.sent, item.number});
      break;
    }
  }
  return saved;
}

void HeldOutput::load(std::vector<Saved> const& saved, vmm::FdTable const& fds) {
  for (Saved const& s : saved) {
    vmm::FileRef file = fds.get(s.fd);
    if (!file) continue;
    held_ += s.bytes.size();
    items_.push_back({std::move(file), s.bytes, s.sent, s.number});
  }
}

}  // namespace vmsrs::runtime
