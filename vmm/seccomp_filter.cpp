#include "vmm/seccomp_filter.hpp"

#include <fmt/format.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace vmm {
namespace {

thread_local bool filtered = false;

constexpr uint32_t kDenied[] = {
    // other programs and processes
    SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev,
    SYS_process_madvise, SYS_process_mrelease, SYS_kcmp, SYS_pidfd_open, SYS_pidfd_getfd, SYS_pidfd_send_signal,
    SYS_migrate_pages, SYS_move_pages,
    // descriptors and memory of the kernel's, and work that it does later
    SYS_open_by_handle_at, SYS_name_to_handle_at, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
    SYS_io_setup, SYS_io_submit, SYS_userfaultfd, SYS_perf_event_open, SYS_bpf, SYS_fanotify_init, SYS_fanotify_mark,
    SYS_lookup_dcookie,
    // name spaces and mounts
    SYS_setns, SYS_unshare, SYS_chroot, SYS_pivot_root, SYS_mount, SYS_umount2, SYS_open_tree, SYS_move_mount,
    SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr,
    // the host
    SYS_kexec_load, SYS_kexec_file_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_reboot, SYS_swapon,
    SYS_swapoff, SYS_acct, SYS_syslog, SYS_vhangup, SYS_quotactl, SYS_quotactl_fd, SYS_sethostname, SYS_setdomainname,
    SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_settimeofday, SYS_clock_settime, SYS_personality, SYS_uselib, SYS_ustat,
    SYS_sysfs,
    // keys
    SYS_add_key, SYS_request_key, SYS_keyctl};

constexpr uint32_t kArch = offsetof(seccomp_data, arch), kNumber = offsetof(seccomp_data, nr),
                   kFirstArgument = offsetof(seccomp_data, args);
constexpr uint32_t kX32 = 0x40000000;
constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr uint32_t errno_of(int error) {
  return SECCOMP_RET_ERRNO | static_cast<uint32_t>(error);
}

constexpr sock_filter load(uint32_t what) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, what);
}
constexpr sock_filter answer(uint32_t what) {
  return BPF_STMT(BPF_RET | BPF_K, what);
}
// Goes on with the next instruction if so, else with the one after it; none of them is far.
constexpr sock_filter when(uint16_t how, uint32_t value) {
  return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | how | BPF_K), value, 0, 1);
}

// For most numbers the answer hangs on the number alone; the kernel finds those out once and keeps a bit for each.
constexpr auto make_program() {
  std::array<sock_filter, 14 + 2 * std::size(kDenied)> program{};
  size_t n = 0;
  program[n++] = load(kArch);
  program[n++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
  program[n++] = answer(errno_of(EPERM));
  program[n++] = load(kNumber);
  program[n++] = when(BPF_JGE, kX32);
  program[n++] = answer(errno_of(EPERM));
  for (uint32_t nr : kDenied) {
    program[n++] = when(BPF_JEQ, nr);
    program[n++] = answer(errno_of(EPERM));
  }
  // Threads may be made, processes not. What clone3 asks for lies in memory, which a filter cannot see: the C library
  // takes ENOSYS as the sign to use clone.
  program[n++] = when(BPF_JEQ, SYS_clone3);
  program[n++] = answer(errno_of(ENOSYS));
  program[n++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0);
  program[n++] = answer(kAllow);
  program[n++] = load(kFirstArgument);
  program[n++] = BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
  program[n++] = answer(errno_of(EPERM));
  program[n++] = answer(kAllow);
  if (n != program.size()) std::abort();  // no constant then: the compiler says so
  return program;
}
constexpr auto kProgram = make_program();

}  // namespace

bool install_seccomp_filter() {
  if (filtered) return true;
  sock_fprog const program{static_cast<unsigned short>(kProgram.size()), const_cast<sock_filter*>(kProgram.data())};
  // Without SPEC_ALLOW some kernels slow the whole thread down against speculation, the guest's code too.
  filtered = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
             syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0;
  if (filtered) return true;
  int const error = errno;
  static std::atomic<bool> told{false};
  if (!told.exchange(true))
    fmt::print(stderr, "vmsrs: goes on without a filter on its own system calls: {}\n", strerror(error));
  return false;
}

bool seccomp_filter_on() noexcept {
  return filtered;
}

void seccomp_filter_inherited() noexcept {
  filtered = true;
}

}  // namespace vmm
