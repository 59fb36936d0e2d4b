#include "vmm/thread.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/kick.hpp"
#include "vmm/process.hpp"

namespace vmm {

int64_t Hooks::on_hypercall(Thread&, SyscallArgs const&) {
  return -ENOSYS;
}

AddressSpace& Thread::memory() const noexcept {
  return process_.memory();
}
FdTable& Thread::fds() const noexcept {
  return process_.fds();
}

int64_t Thread::block_in(long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) {
  static_assert(sizeof(std::atomic<bool>) == 1);
  state_.store(RunState::kBlocked);
  process_.state_changed();
  int64_t const r = vmm_interruptible(reinterpret_cast<bool const*>(&kicked_), nr, a0, a1, a2, a3, a4, a5);
  state_.store(RunState::kMonitor);
  process_.park_if_pausing(*this);
  return r == -EINTR ? kRestartSys : r;
}

void Thread::kick() noexcept {
  kicked_.store(true);
  if (int const tid = host_tid_.load(); tid != 0) syscall(SYS_tgkill, getpid(), tid, kick_signal());
}

void Thread::announce_out(GuestRange range) {
  if (range.size != 0 && process_.hooks().wants_syscalls()) process_.hooks().on_syscall_write(*this, range);
}

void Thread::force_fault(int signal) noexcept {
  forced_.store(signal);
  kick();
}

}  // namespace vmm
