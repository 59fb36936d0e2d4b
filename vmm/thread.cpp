#include "vmm/thread.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "vmm/exitless_calls.hpp"
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

uint64_t Thread::gs_base() const noexcept {
  return regs_.gs_base == own_gs_base_ ? 0 : regs_.gs_base;
}

void Thread::set_gs_base(uint64_t base) noexcept {
  regs_.gs_base = base != 0 ? base : own_gs_base_;
}

int64_t Thread::block_in(long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) {
  static_assert(sizeof(std::atomic<bool>) == 1);
  if (exitless_) return try_in_place(nr, {a0, a1, a2, a3, a4, a5});
  uint64_t const sent = std::exchange(sent_, 0);
  wait_call_.store(nr, std::memory_order_relaxed);
  wait_word_.store(nr == SYS_futex && a3 == 0 ? a0 : 0, std::memory_order_relaxed);
  state_.store(RunState::kBlocked);
  process_.state_changed();
  int64_t const r = process_.stopping_at_gates() ? -EINTR
                                                 : vmm_interruptible(reinterpret_cast<bool const*>(&kicked_), nr, a0,
                                                                     a1 + sent, a2 - sent, a3, a4, a5);
  state_.store(RunState::kMonitor);
  process_.park_if_pausing(*this);
  if (sent == 0) return r == -EINTR ? kRestartSys : r;
  if (r >= 0) return r + static_cast<int64_t>(sent);
  if (r != -EINTR || process_.signals().deliverable(*this)) return static_cast<int64_t>(sent);
  sent_ = sent;
  return kRestartSys;
}

// On a poller's thread: what need not wait. What a poller sent of a write, the thread itself goes on with.
int64_t Thread::try_in_place(long nr, std::array<uint64_t, 6> const& a) {
  Tried const tried = try_host_call(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (tried.kind == Tried::kDone) return tried.result;
  if (tried.kind == Tried::kInPart) sent_ = static_cast<uint64_t>(tried.result);
  by_exit_ |= tried.kind != Tried::kWouldWait;
  return kRestartSys;
}

void Thread::begin_wait() noexcept {
  wait_call_.store(-1, std::memory_order_relaxed);
  wait_word_.store(0, std::memory_order_relaxed);
  state_.store(RunState::kBlocked);
  process_.state_changed();
}

void Thread::end_wait() noexcept {
  state_.store(RunState::kMonitor);
  process_.park_if_pausing(*this);
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
