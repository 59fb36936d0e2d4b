// ioctl: the allowed requests and the shape of their argument. Each is run on a copy of the
// monitor's own.
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/random.h>
#include <linux/sockios.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"

namespace vmm {

namespace {

enum class Shape : uint8_t { kNumber, kIn, kOut, kInOut };

struct Request {
  unsigned code;
  Shape shape;
  uint8_t size = 0;
};

constexpr uint8_t kTermios = 36;  // the kernel's struct termios
static_assert(sizeof(termios) == kTermios && sizeof(termios2) == 44 && sizeof(ifreq) == 40);

constexpr std::array kRequests{
    Request{FIONREAD, Shape::kOut, 4},
    Request{FIONBIO, Shape::kIn, 4},
    Request{FIOQSIZE, Shape::kOut, 8},
    Request{FIGETBSZ, Shape::kOut, 4},
    Request{FS_IOC_GETFLAGS, Shape::kOut, 4},
    Request{RNDGETENTCNT, Shape::kOut, 4},
    // terminals
    Request{TCGETS, Shape::kOut, kTermios},
    Request{TCSETS, Shape::kIn, kTermios},
    Request{TCSETSW, Shape::kIn, kTermios},
    Request{TCSETSF, Shape::kIn, kTermios},
    Request{TCGETS2, Shape::kOut, 44},
    Request{TCSETS2, Shape::kIn, 44},
    Request{TCSETSW2, Shape::kIn, 44},
    Request{TCSETSF2, Shape::kIn, 44},
    Request{TCSBRK, Shape::kNumber},
    Request{TCXONC, Shape::kNumber},
    Request{TCFLSH, Shape::kNumber},
    Request{TIOCGWINSZ, Shape::kOut, 8},
    Request{TIOCSWINSZ, Shape::kIn, 8},
    Request{TIOCOUTQ, Shape::kOut, 4},
    Request{TIOCGPTN, Shape::kOut, 4},
    Request{TIOCSPTLCK, Shape::kIn, 4},
    Request{TIOCGPTLCK, Shape::kOut, 4},
    // sockets
    Request{SIOCATMARK, Shape::kOut, 4},
    Request{SIOCGIFNAME, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFFLAGS, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFADDR, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFDSTADDR, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFBRDADDR, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFNETMASK, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFMETRIC, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFMTU, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFHWADDR, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFINDEX, Shape::kInOut, sizeof(ifreq)},
    Request{SIOCGIFTXQLEN, Shape::kInOut, sizeof(ifreq)},
};

// struct ifconf has an inner pointer.
int64_t interface_list(Thread& thread, OpenFile const& file, GuestAddr at) {
  struct ifconf conf {};
  if (!thread.memory().read(at, conf)) return -EFAULT;
  if (conf.ifc_len < 0) return -EINVAL;
  GuestAddr const to(reinterpret_cast<uint64_t>(conf.ifc_buf));
  std::vector<char> list(std::min<size_t>(static_cast<size_t>(conf.ifc_len), 1 << 16));
  struct ifconf copy {};
  copy.ifc_len = static_cast<int>(list.size());
  copy.ifc_buf = to ? list.data() : nullptr;
  int64_t const result = host(SYS_ioctl, file.host_fd(), SIOCGIFCONF, &copy);
  if (result < 0) return result;
  if (to && !write_out(thread, to, list.data(), static_cast<uint64_t>(copy.ifc_len))) {
    return -EFAULT;
  }
  conf.ifc_len = copy.ifc_len;
  return write_out(thread, at, conf) ? result : -EFAULT;
}

int64_t do_ioctl(Thread& thread, SyscallArgs const& args) {
  int const fd = int_arg(args, 0);
  auto const code = static_cast<unsigned>(args.a[1]);
  GuestAddr const at = addr_arg(args, 2);
  FileRef const file = thread.fds().get(fd);
  if (!file) return -EBADF;
  switch (code) {
    case FIOCLEX:
    case FIONCLEX:
      thread.fds().set_cloexec(fd, code == FIOCLEX);
      return 0;
    case SIOCGIFCONF:
      return interface_list(thread, *file, at);
    case TIOCGPGRP:
    case TIOCGSID: {
      // The guest is the foreground job of its terminal: group and session bear its own id.
      int group = 0;
      int64_t const result = host(SYS_ioctl, file->host_fd(), code, &group);
      if (result < 0) return result;
      group = Process::pid();
      return write_out(thread, at, group) ? 0 : -EFAULT;
    }
    case TIOCSPGRP: {
      int group = 0;
      if (!thread.memory().read(at, group)) return -EFAULT;
      if (host(SYS_ioctl, file->host_fd(), TIOCGPGRP, &group) < 0) return -ENOTTY;
      return 0;
    }
    case TIOCSTI:
    case TIOCSCTTY:
    case TIOCNOTTY:
      return -EPERM;
    case FICLONE: {
      FileRef const source = thread.fds().get(int_arg(args, 2));
      if (!source) return -EBADF;
      return host(SYS_ioctl, file->host_fd(), FICLONE, source->host_fd());
    }
    default:
      break;
  }
  auto const* const request =
      std::find_if(kRequests.begin(), kRequests.end(), [&](Request const& r) { return r.code == code; });
  if (request == kRequests.end()) return -ENOTTY;
  if (request->shape == Shape::kNumber) {
    return host_blocking(thread, SYS_ioctl, file->host_fd(), code, args.a[2]);
  }
  alignas(8) std::array<std::byte, 64> copy{};
  bool const reads = request->shape != Shape::kOut;
  if (reads && !thread.memory().read(at, copy.data(), request->size)) return -EFAULT;
  if (!thread.memory().contains(at, request->size)) return -EFAULT;
  if (request->shape != Shape::kIn) thread.announce_out({at, request->size});
  int64_t const result = host_blocking(thread, SYS_ioctl, file->host_fd(), code, copy.data());
  if (result < 0 || request->shape == Shape::kIn) return result;
  return write_out(thread, at, copy.data(), request->size) ? result : -EFAULT;
}

using namespace arg;
constexpr SyscallRow kRows[] = {
    {SYS_ioctl,
     "ioctl",
     {kFd, kNum, kAddr},
     do_ioctl,
     Support::kPartial,
     "a list of requests on terminals, sockets and files; others are ENOTTY"},
};

}  // namespace

std::span<SyscallRow const> ioctl_rows() {
  return kRows;
}

}  // namespace vmm
