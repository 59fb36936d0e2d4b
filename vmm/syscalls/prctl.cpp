// prctl: the options that have a meaning for the guest. None changes the monitor.
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/rlimits.hpp"

namespace vmm {

namespace {

int64_t write_int(Thread& thread, GuestAddr at, int value) {
  return write_out(thread, at, value) ? 0 : -EFAULT;
}

int64_t do_prctl(Thread& thread, SyscallArgs const& args) {
  constexpr size_t kName = 16;
  GuestAddr const at = addr_arg(args, 1);
  switch (int_arg(args, 0)) {
    case PR_SET_NAME: {
      std::string name;
      int const error = thread.memory().read_string(at, name, kName);
      if (error == EFAULT) return -EFAULT;
      if (error == ENAMETOOLONG) {
        name.resize(kName - 1);
        if (!thread.memory().read(at, name.data(), kName - 1)) return -EFAULT;
      }
      set_thread_name(thread, name.substr(0, kName - 1));
      return 0;
    }
    case PR_GET_NAME: {
      char name[kName]{};
      std::string const text = thread_name(thread, thread.tid());
      text.copy(name, kName - 1);
      thread.announce_out({at, kName});
      return write_out(thread, at, name) ? 0 : -EFAULT;
    }
    case PR_SET_PDEATHSIG:
      return args.a[1] <= 64 ? 0 : -EINVAL;  // the parent is the monitor's world: never told
    case PR_GET_PDEATHSIG:
    case PR_GET_CHILD_SUBREAPER:
      return write_int(thread, at, 0);
    case PR_SET_CHILD_SUBREAPER:
      return 0;  // there are no children
    case PR_GET_DUMPABLE:
      return 1;
    case PR_SET_DUMPABLE:
      return args.a[1] <= 1 ? 0 : -EINVAL;
    case PR_GET_KEEPCAPS:
    case PR_GET_NO_NEW_PRIVS:
    case PR_GET_SECCOMP:
    case PR_GET_THP_DISABLE:
    case PR_MCE_KILL_GET:
    case PR_GET_TIMING:
    case PR_GET_SECUREBITS:
      return 0;
    case PR_SET_KEEPCAPS:
    case PR_SET_NO_NEW_PRIVS:
      return args.a[1] <= 1 ? 0 : -EINVAL;  // no program is ever started from here
    case PR_SET_TIMERSLACK:
      return 0;
    case PR_GET_TIMERSLACK:
      return host(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
    case PR_SET_THP_DISABLE:
    case PR_SET_VMA:
      return 0;  // hints
    case PR_CAPBSET_READ:
      return host(SYS_prctl, PR_CAPBSET_READ, args.a[1], 0, 0, 0);
    case PR_SET_MM:
    case PR_SET_SECCOMP:
    case PR_CAPBSET_DROP:
    case PR_SET_SECUREBITS:
    case PR_SET_PTRACER:
      return -EPERM;
    default:
      return -EINVAL;
  }
}

using namespace arg;
constexpr SyscallRow kRows[] = {
    {SYS_prctl,
     "prctl",
     {kNum, kAddr, kNum, kNum, kNum},
     do_prctl,
     Support::kPartial,
     "names and harmless queries; nothing reaches the monitor"},
};

}  // namespace

std::span<SyscallRow const> prctl_rows() {
  return kRows;
}

}  // namespace vmm
