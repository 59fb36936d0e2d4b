#include "vmm/guest_memory_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

namespace vmm {
namespace {

constexpr char const* kName = "vmsrs-guest";

// A file on a tmpfs that is mounted nowhere; it goes with its last descriptor. -1: not allowed here.
int file_on_tmpfs() {
  ScopedFd const context(fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (context.get() < 0) return -1;
  bool const ready = fsconfig(context.get(), FSCONFIG_SET_STRING, "huge", "advise", 0) == 0 &&
                     fsconfig(context.get(), FSCONFIG_SET_STRING, "size", "0", 0) == 0 &&  // no limit, as of a memfd
                     fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0;
  if (!ready) return -1;
  ScopedFd const mount(fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  if (mount.get() < 0) return -1;
  // Under this name it appears in /proc/PID/maps.
  int const file = openat(mount.get(), kName, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (file >= 0) unlinkat(mount.get(), kName, 0);
  return file;
}

bool write_file(char const* path, std::string const& text) {
  ScopedFd const file(open(path, O_WRONLY | O_CLOEXEC));
  return file.get() >= 0 && write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

bool send_fd(int socket, int fd) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &part, message.msg_iovlen = 1;
  message.msg_control = control, message.msg_controllen = sizeof control;
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(socket, &message, MSG_NOSIGNAL) == 1;
}

int receive_fd(int socket) {
  char byte = 0;
  iovec part{&byte, 1};
  int fd = -1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &part, message.msg_iovlen = 1;
  message.msg_control = control, message.msg_controllen = sizeof control;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
  cmsghdr const* const header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

// Users who may not mount: a child in name spaces of its own makes the file and hands it over.
int file_from_child() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return -1;
  ScopedFd const ours(ends[0]);
  ScopedFd theirs(ends[1]);
  uid_t const uid = geteuid();
  gid_t const gid = getegid();
  pid_t const child = fork();
  if (child == 0) {
    bool const made = unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
                      write_file("/proc/self/uid_map", fmt::format("{} {} 1", uid, uid)) &&
                      write_file("/proc/self/setgroups", "deny") &&
                      write_file("/proc/self/gid_map", fmt::format("{} {} 1", gid, gid));
    int const fd = made ? file_on_tmpfs() : -1;
    _exit(fd >= 0 && send_fd(theirs.get(), fd) ? 0 : 1);
  }
  theirs = ScopedFd();
  if (child < 0) return -1;
  int const fd = receive_fd(ours.get());
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return fd;
}

}  // namespace

Result<ScopedFd> make_guest_memory_file(uint64_t size) {
  ScopedFd file(file_on_tmpfs());
  if (file.get() < 0) file = ScopedFd(file_from_child());
  if (file.get() < 0) file = ScopedFd(memfd_create(kName, MFD_CLOEXEC));
  if (file.get() < 0) return fail_host("memfd_create for the guest's memory");
  if (ftruncate(file.get(), static_cast<off_t>(size)) != 0) return fail_host("ftruncate of the guest's memory");
  return file;
}

}  // namespace vmm
