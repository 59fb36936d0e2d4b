// Who the guest is: process ids are virtual, users and groups are the host's.
#include <linux/capability.h>
#include <sys/syscall.h>

#include <vector>

#include "vmm/process.hpp"
#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"

namespace vmm {

namespace {

constexpr int kParent = 1;

bool is_self(int pid) {
  return pid == 0 || pid == Process::pid();
}

int64_t do_getpid(Thread&, SyscallArgs const&) {
  return Process::pid();
}
int64_t do_getppid(Thread&, SyscallArgs const&) {
  return kParent;
}
int64_t do_getpgrp(Thread&, SyscallArgs const&) {
  return Process::pid();
}
int64_t do_getpgid(Thread&, SyscallArgs const& args) {
  return is_self(int_arg(args, 0)) ? Process::pid() : -ESRCH;
}
int64_t do_setpgid(Thread&, SyscallArgs const& args) {
  if (!is_self(int_arg(args, 0))) return -ESRCH;
  return is_self(int_arg(args, 1)) ? 0 : -EPERM;
}
// The guest leads a session of its own from the start; daemons call this first of all.
int64_t do_setsid(Thread&, SyscallArgs const&) {
  return Process::pid();
}

// The ids are those of the host's process, which stays who it is: a change to what is set already is
// granted, any other is refused.
int64_t same_ids(uint64_t const* wanted, int count, std::initializer_list<uint64_t> own) {
  for (int i = 0; i < count; ++i) {
    auto const id = static_cast<uint32_t>(wanted[i]);
    bool known = id == UINT32_MAX && count > 1;
    for (uint64_t const o : own) known = known || id == o;
    if (!known) return -EPERM;
  }
  return 0;
}
int64_t do_set_users(Thread&, SyscallArgs const& args) {
  int const count = args.nr == SYS_setuid ? 1 : args.nr == SYS_setreuid ? 2 : 3;
  return same_ids(args.a.data(), count, {getuid(), geteuid()});
}
int64_t do_set_groups(Thread&, SyscallArgs const& args) {
  int const count = args.nr == SYS_setgid ? 1 : args.nr == SYS_setregid ? 2 : 3;
  return same_ids(args.a.data(), count, {getgid(), getegid()});
}
int64_t do_setfsuid(Thread&, SyscallArgs const&) {
  return geteuid();
}
int64_t do_setfsgid(Thread&, SyscallArgs const&) {
  return getegid();
}
int64_t do_get_ids(Thread& thread, SyscallArgs const& args) {
  uint32_t ids[3]{};
  int64_t const result = host(static_cast<long>(args.nr), &ids[0], &ids[1], &ids[2]);
  for (int i = 0; result == 0 && i < 3; ++i) {
    if (!write_out(thread, addr_arg(args, i), ids[i])) return -EFAULT;
  }
  return result;
}
int64_t do_setgroups(Thread& thread, SyscallArgs const& args) {
  int const count = int_arg(args, 0);
  if (count < 0 || count > 65536) return -EINVAL;
  std::vector<uint32_t> wanted(static_cast<size_t>(count));
  if (count != 0 && !thread.memory().read(addr_arg(args, 1), wanted.data(), wanted.size() * 4)) {
    return -EFAULT;
  }
  std::vector<uint32_t> own(65536);
  int64_t const n = host(SYS_getgroups, own.size(), own.data());
  if (n < 0) return n;
  own.resize(static_cast<size_t>(n));
  return wanted == own ? 0 : -EPERM;
}
int64_t do_getgroups(Thread& thread, SyscallArgs const& args) {
  int const count = int_arg(args, 0);
  if (count < 0) return -EINVAL;
  std::vector<uint32_t> groups(std::min<size_t>(static_cast<size_t>(count), 65536));
  int64_t const n = host(SYS_getgroups, groups.size(), groups.data());
  if (n > 0 && count != 0 && !write_out(thread, addr_arg(args, 1), groups.data(), static_cast<uint64_t>(n) * 4)) {
    return -EFAULT;
  }
  return n;
}

int64_t do_capget(Thread& thread, SyscallArgs const& args) {
  __user_cap_header_struct header{};
  if (!thread.memory().read(addr_arg(args, 0), header)) return -EFAULT;
  if (header.version != _LINUX_CAPABILITY_VERSION_3) {
    header.version = _LINUX_CAPABILITY_VERSION_3;
    return write_out(thread, addr_arg(args, 0), header) ? -EINVAL : -EFAULT;
  }
  if (!is_self(header.pid) && header.pid != thread.tid()) return -ESRCH;
  header.pid = 0;
  __user_cap_data_struct data[2]{};
  int64_t const result = host(SYS_capget, &header, data);
  if (result < 0 || !addr_arg(args, 1)) return result;
  return write_out(thread, addr_arg(args, 1), data) ? 0 : -EFAULT;
}
// Giving rights up would take them from the monitor; taking more is not the guest's to ask.
int64_t do_capset(Thread& thread, SyscallArgs const& args) {
  __user_cap_header_struct header{};
  __user_cap_data_struct wanted[2]{}, own[2]{};
  if (!thread.memory().read(addr_arg(args, 0), header)) return -EFAULT;
  if (header.version != _LINUX_CAPABILITY_VERSION_3) return -EINVAL;
  if (!thread.memory().read(addr_arg(args, 1), wanted)) return -EFAULT;
  header.pid = 0;
  if (int64_t const e = host(SYS_capget, &header, own); e < 0) return e;
  for (int i = 0; i < 2; ++i) {
    if ((wanted[i].effective & ~own[i].permitted) != 0 || (wanted[i].permitted & ~own[i].permitted) != 0) {
      return -EPERM;
    }
  }
  return 0;
}

using namespace arg;
constexpr char const* kSame = "to the present ids only";
constexpr SyscallRow kRows[] = {
    {SYS_getpid, "getpid", {}, do_getpid},
    {SYS_getppid, "getppid", {}, do_getppid},
    {SYS_getpgrp, "getpgrp", {}, do_getpgrp},
    {SYS_getpgid, "getpgid", {kNum}, do_getpgid},
    {SYS_setpgid, "setpgid", {kNum, kNum}, do_setpgid, Support::kPartial, "changes nothing"},
    {SYS_getsid, "getsid", {kNum}, do_getpgid},
    {SYS_setsid, "setsid", {}, do_setsid, Support::kPartial, "changes nothing"},
    {SYS_getuid, "getuid", {}, pass_through},
    {SYS_geteuid, "geteuid", {}, pass_through},
    {SYS_getgid, "getgid", {}, pass_through},
    {SYS_getegid, "getegid", {}, pass_through},
    {SYS_getresuid, "getresuid", {out(4), out(4), out(4)}, do_get_ids},
    {SYS_getresgid, "getresgid", {out(4), out(4), out(4)}, do_get_ids},
    {SYS_getgroups, "getgroups", {kNum, kAddr}, do_getgroups},
    {SYS_setuid, "setuid", {kNum}, do_set_users, Support::kPartial, kSame},
    {SYS_setreuid, "setreuid", {kNum, kNum}, do_set_users, Support::kPartial, kSame},
    {SYS_setresuid, "setresuid", {kNum, kNum, kNum}, do_set_users, Support::kPartial, kSame},
    {SYS_setgid, "setgid", {kNum}, do_set_groups, Support::kPartial, kSame},
    {SYS_setregid, "setregid", {kNum, kNum}, do_set_groups, Support::kPartial, kSame},
    {SYS_setresgid, "setresgid", {kNum, kNum, kNum}, do_set_groups, Support::kPartial, kSame},
    {SYS_setfsuid, "setfsuid", {kNum}, do_setfsuid, Support::kPartial, "changes nothing"},
    {SYS_setfsgid, "setfsgid", {kNum}, do_setfsgid, Support::kPartial, "changes nothing"},
    {SYS_setgroups, "setgroups", {kNum, kAddr}, do_setgroups, Support::kPartial, kSame},
    {SYS_capget, "capget", {inout(8), out_or_null(24)}, do_capget},
    {SYS_capset, "capset", {in(8), in(24)}, do_capset, Support::kPartial, "checked, but nothing is given up"},
};

}  // namespace

std::span<SyscallRow const> identity_rows() {
  return kRows;
}

}  // namespace vmm
