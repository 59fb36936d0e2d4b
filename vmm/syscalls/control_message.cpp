#include "vmm/syscalls/control_message.hpp"

#include <unistd.h>

#include <cstring>

#include "vmm/process.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/path.hpp"

namespace vmm {

namespace {

// struct cmsghdr without its flexible array.
struct Header {
  size_t cmsg_len;
  int cmsg_level, cmsg_type;
};
static_assert(sizeof(Header) == sizeof(cmsghdr));

// One message in a buffer of them; its data follow the header at once (cmsg(3)).
struct Message {
  Header header{};
  size_t at = 0, data_at = 0, data_size = 0;
};

constexpr size_t kHeader = CMSG_LEN(0);

// False at the end. `bad`: a length that does not fit.
bool next_message(std::vector<std::byte> const& control, size_t& at, Message& message, bool& bad) {
  bad = false;
  if (at > control.size() || control.size() - at < kHeader) return false;
  std::memcpy(&message.header, control.data() + at, sizeof message.header);
  size_t const length = message.header.cmsg_len;
  if (length < kHeader || length > control.size() - at) {
    bad = true;
    return false;
  }
  message.at = at;
  message.data_at = at + kHeader;
  message.data_size = length - kHeader;
  at += CMSG_ALIGN(length);
  return true;
}

}  // namespace

int64_t control_to_host(Thread& thread, std::vector<std::byte>& control, std::vector<FileRef>& files) {
  size_t at = 0;
  Message message;
  bool bad = false;
  while (next_message(control, at, message, bad)) {
    if (message.header.cmsg_level != SOL_SOCKET) continue;
    if (message.header.cmsg_type == SCM_RIGHTS) {
      for (size_t i = 0; i + sizeof(int) <= message.data_size; i += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, control.data() + message.data_at + i, sizeof fd);
        FileRef file = thread.fds().get(fd);
        if (!file) return -EBADF;
        int const host_fd = file->host_fd();
        std::memcpy(control.data() + message.data_at + i, &host_fd, sizeof host_fd);
        files.push_back(std::move(file));
      }
    } else if (message.header.cmsg_type == SCM_CREDENTIALS) {
      ucred credentials{};
      if (message.data_size < sizeof credentials) return -EINVAL;
      std::memcpy(&credentials, control.data() + message.data_at, sizeof credentials);
      if (credentials.pid != Process::pid()) return -EPERM;
      credentials.pid = ::getpid();
      std::memcpy(control.data() + message.data_at, &credentials, sizeof credentials);
    } else if (message.header.cmsg_type == 0x04 /* SCM_PIDFD */) {
      return -EINVAL;
    }
  }
  return bad ? -EINVAL : 0;
}

void control_to_guest(Thread& thread, std::vector<std::byte>& control, bool cloexec, int& flags,
                      std::vector<int>& installed) {
  std::vector<std::byte> out;
  size_t at = 0;
  Message message;
  bool bad = false;
  auto const append = [&](Header header, std::byte const* data, size_t size) {
    size_t const start = CMSG_ALIGN(out.size());
    out.resize(start + kHeader + size);
    header.cmsg_len = kHeader + size;
    std::memcpy(out.data() + start, &header, sizeof header);
    if (size != 0) std::memcpy(out.data() + start + kHeader, data, size);
  };
  while (next_message(control, at, message, bad)) {
    std::byte* const data = control.data() + message.data_at;
    bool const socket = message.header.cmsg_level == SOL_SOCKET;
    if (socket && message.header.cmsg_type == SCM_RIGHTS) {
      size_t kept = 0;
      for (size_t i = 0; i + sizeof(int) <= message.data_size; i += sizeof(int)) {
        int host_fd = -1;
        std::memcpy(&host_fd, data + i, sizeof host_fd);
        // Objects of procfs come in by path only, where they are looked at.
        bool const refused = on_procfs(host_fd);
        FileRef file = adopt_host_fd(host_fd);
        int const fd = refused ? -EACCES : thread.fds().install(std::move(file), cloexec);
        if (fd < 0) {
          flags |= MSG_CTRUNC;
          continue;
        }
        installed.push_back(fd);
        std::memcpy(data + kept, &fd, sizeof fd);
        kept += sizeof fd;
      }
      if (kept != 0) append(message.header, data, kept);
      continue;
    }
    if (socket && message.header.cmsg_type == SCM_CREDENTIALS && message.data_size >= sizeof(ucred)) {
      ucred credentials{};
      std::memcpy(&credentials, data, sizeof credentials);
      if (credentials.pid == ::getpid()) credentials.pid = Process::pid();
      std::memcpy(data, &credentials, sizeof credentials);
    }
    append(message.header, data, message.data_size);
  }
  // A message cut short by the buffer's end: its header and what is there of it, as the kernel
  // leaves it. It holds no fd: the kernel cuts SCM_RIGHTS at whole numbers.
  control = std::move(out);
}

}  // namespace vmm
