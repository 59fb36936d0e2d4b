// Calls that never reach the host (fork and execve are in threads.cpp). Their rows say why; a program that asks gets
// the error that makes it fall back, where there is one.
#include <sys/syscall.h>

#include "vmm/syscalls/families.hpp"
#include "vmm/syscalls/host.hpp"

namespace vmm {

namespace {

int64_t not_implemented(Thread&, SyscallArgs const&) {
  return -ENOSYS;
}
int64_t invalid(Thread&, SyscallArgs const&) {
  return -EINVAL;
}
int64_t no_children(Thread&, SyscallArgs const&) {
  return -ECHILD;
}

// Query only: what it would change is how the monitor itself is run.
int64_t do_personality(Thread&, SyscallArgs const& args) {
  auto const wanted = static_cast<uint32_t>(args.a[0]);
  return wanted == UINT32_MAX || wanted == 0 ? 0 : -EPERM;
}

// One node, and its memory is the monitor's: advice that may be ignored.
int64_t ignored(Thread&, SyscallArgs const&) {
  return 0;
}

constexpr SyscallRow denied(uint16_t nr, char const* name, char const* why, SyscallHandler handler = deny) {
  return {nr, name, {}, handler, Support::kDenied, why};
}

constexpr char const* kOther = "reaches into processes, the monitor too";
constexpr char const* kKernel = "hands the host kernel memory of ours or work of its own";
constexpr char const* kHost = "changes the host";
constexpr char const* kSpaces = "changes the monitor's own name spaces";
constexpr char const* kIpc = "System V IPC is not hosted";

constexpr SyscallRow kRows[] = {
    denied(SYS_wait4, "wait4", "there are no children", no_children),
    denied(SYS_waitid, "waitid", "there are no children", no_children),
    denied(SYS_ptrace, "ptrace", kOther),
    denied(SYS_process_vm_readv, "process_vm_readv", kOther),
    denied(SYS_process_vm_writev, "process_vm_writev", kOther),
    denied(SYS_process_madvise, "process_madvise", kOther),
    denied(SYS_process_mrelease, "process_mrelease", kOther),
    denied(SYS_kcmp, "kcmp", kOther),
    denied(SYS_pidfd_open, "pidfd_open", kOther, not_implemented),
    denied(SYS_pidfd_getfd, "pidfd_getfd", kOther),
    denied(SYS_pidfd_send_signal, "pidfd_send_signal", kOther, not_implemented),
    denied(SYS_migrate_pages, "migrate_pages", kOther),
    denied(SYS_move_pages, "move_pages", kOther),
    denied(SYS_open_by_handle_at, "open_by_handle_at", "opens past every path check"),
    denied(SYS_name_to_handle_at, "name_to_handle_at", "of use with open_by_handle_at only"),
    denied(SYS_io_setup, "io_setup", kKernel, not_implemented),
    denied(SYS_io_destroy, "io_destroy", kKernel, not_implemented),
    denied(SYS_io_submit, "io_submit", kKernel, not_implemented),
    denied(SYS_io_cancel, "io_cancel", kKernel, not_implemented),
    denied(SYS_io_getevents, "io_getevents", kKernel, not_implemented),
    denied(SYS_io_pgetevents, "io_pgetevents", kKernel, not_implemented),
    denied(SYS_io_uring_setup, "io_uring_setup", kKernel, not_implemented),
    denied(SYS_io_uring_enter, "io_uring_enter", kKernel, not_implemented),
    denied(SYS_io_uring_register, "io_uring_register", kKernel, not_implemented),
    denied(SYS_userfaultfd, "userfaultfd", kKernel),
    denied(SYS_perf_event_open, "perf_event_open", kKernel),
    denied(SYS_bpf, "bpf", kKernel),
    denied(SYS_seccomp, "seccomp", "would filter the monitor's calls", invalid),
    denied(SYS_fanotify_init, "fanotify_init", kKernel),
    denied(SYS_fanotify_mark, "fanotify_mark", kKernel),
    denied(SYS_lookup_dcookie, "lookup_dcookie", kKernel),
    denied(SYS_shmget, "shmget", kIpc, not_implemented),
    denied(SYS_shmat, "shmat", kIpc, not_implemented),
    denied(SYS_shmctl, "shmctl", kIpc, not_implemented),
    denied(SYS_shmdt, "shmdt", kIpc, not_implemented),
    denied(SYS_semget, "semget", kIpc, not_implemented),
    denied(SYS_semop, "semop", kIpc, not_implemented),
    denied(SYS_semtimedop, "semtimedop", kIpc, not_implemented),
    denied(SYS_semctl, "semctl", kIpc, not_implemented),
    denied(SYS_msgget, "msgget", kIpc, not_implemented),
    denied(SYS_msgsnd, "msgsnd", kIpc, not_implemented),
    denied(SYS_msgrcv, "msgrcv", kIpc, not_implemented),
    denied(SYS_msgctl, "msgctl", kIpc, not_implemented),
    denied(SYS_mq_open, "mq_open", kIpc, not_implemented),
    denied(SYS_mq_unlink, "mq_unlink", kIpc, not_implemented),
    denied(SYS_setns, "setns", kSpaces),
    denied(SYS_unshare, "unshare", kSpaces),
    denied(SYS_chroot, "chroot", kSpaces),
    denied(SYS_pivot_root, "pivot_root", kSpaces),
    denied(SYS_mount, "mount", kSpaces),
    denied(SYS_umount2, "umount2", kSpaces),
    denied(SYS_open_tree, "open_tree", kSpaces),
    denied(SYS_move_mount, "move_mount", kSpaces),
    denied(SYS_fsopen, "fsopen", kSpaces),
    denied(SYS_fsconfig, "fsconfig", kSpaces),
    denied(SYS_fsmount, "fsmount", kSpaces),
    denied(SYS_fspick, "fspick", kSpaces),
    denied(SYS_mount_setattr, "mount_setattr", kSpaces),
    denied(SYS_modify_ldt, "modify_ldt", "the monitor's descriptor table", not_implemented),
    denied(SYS_iopl, "iopl", kHost),
    denied(SYS_ioperm, "ioperm", kHost),
    denied(SYS_kexec_load, "kexec_load", kHost),
    denied(SYS_kexec_file_load, "kexec_file_load", kHost),
    denied(SYS_init_module, "init_module", kHost),
    denied(SYS_finit_module, "finit_module", kHost),
    denied(SYS_delete_module, "delete_module", kHost),
    denied(SYS_quotactl, "quotactl", kHost),
    denied(SYS_quotactl_fd, "quotactl_fd", kHost),
    denied(SYS_reboot, "reboot", kHost),
    denied(SYS_swapon, "swapon", kHost),
    denied(SYS_swapoff, "swapoff", kHost),
    denied(SYS_acct, "acct", kHost),
    denied(SYS_syslog, "syslog", kHost),
    denied(SYS_vhangup, "vhangup", kHost),
    denied(SYS_sethostname, "sethostname", kHost),
    denied(SYS_setdomainname, "setdomainname", kHost),
    denied(SYS_ioprio_set, "ioprio_set", kHost),
    denied(SYS_ioprio_get, "ioprio_get", kHost, not_implemented),
    denied(SYS_add_key, "add_key", kHost, not_implemented),
    denied(SYS_request_key, "request_key", kHost, not_implemented),
    denied(SYS_keyctl, "keyctl", kHost, not_implemented),
    denied(SYS_landlock_create_ruleset, "landlock_create_ruleset", "would restrict the monitor", not_implemented),
    denied(SYS_landlock_add_rule, "landlock_add_rule", "would restrict the monitor", not_implemented),
    denied(SYS_landlock_restrict_self, "landlock_restrict_self", "would restrict the monitor", not_implemented),
    denied(SYS_memfd_secret, "memfd_secret", "memory without an alias", not_implemented),
    denied(SYS_remap_file_pages, "remap_file_pages", "would change mappings behind the monitor"),
    denied(SYS_pkey_alloc, "pkey_alloc", "protection keys are not offered", not_implemented),
    denied(SYS_pkey_free, "pkey_free", "protection keys are not offered", not_implemented),
    denied(SYS_pkey_mprotect, "pkey_mprotect", "protection keys are not offered", not_implemented),
    denied(SYS_uselib, "uselib", "obsolete", not_implemented),
    denied(SYS_ustat, "ustat", "obsolete", not_implemented),
    denied(SYS_sysfs, "sysfs", "obsolete", not_implemented),
    denied(SYS_getdents, "getdents", "obsolete: getdents64", not_implemented),
    {SYS_personality, "personality", {arg::kNum}, do_personality, Support::kPartial, "query only"},
    {SYS_set_mempolicy, "set_mempolicy", {arg::kNum, arg::kAddr, arg::kNum}, ignored, Support::kPartial, "ignored"},
    {SYS_mbind,
     "mbind",
     {arg::kAddr, arg::kNum, arg::kNum, arg::kAddr, arg::kNum, arg::kNum},
     ignored,
     Support::kPartial,
     "ignored"},
    denied(SYS_get_mempolicy, "get_mempolicy", "no NUMA policy is kept", not_implemented),
};

}  // namespace

std::span<SyscallRow const> denied_rows() {
  return kRows;
}

}  // namespace vmm
