#include "vmm/syscalls/lookup.hpp"

#include <fcntl.h>
#include <sys/syscall.h>

namespace vmm {

Lookup look_up(Thread& thread, int dirfd, GuestAddr path, bool follow, bool empty_ok) {
  Lookup result;
  std::string text;
  if (path || !empty_ok) result.error = read_path(thread, path, text);
  if (result.error != 0) return result;
  if (!text.empty() || !empty_ok) {
    static_cast<Target&>(result) = resolve(thread, dirfd, text, follow);
    return result;
  }
  if (dirfd == AT_FDCWD) {
    result.error = host(SYS_openat, AT_FDCWD, ".", O_PATH | O_CLOEXEC);
    if (result.error >= 0) {
      result.fd = UniqueFd(result.error);
      result.error = 0;
    }
    return result;
  }
  result.file = thread.fds().get(dirfd);
  if (!result.file) {
    result.error = -EBADF;
  } else if (auto const* const directory = dynamic_cast<ProcDirectory*>(result.file.get())) {
    result.node = directory->node();
  } else {
    result.read_only = result.file->read_only;
  }
  return result;
}

}  // namespace vmm
