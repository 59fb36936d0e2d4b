#include "vmm/guest_thread.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "vmm/decode.hpp"
#include "vmm/exitless_calls.hpp"
#include "vmm/kick.hpp"
#include "vmm/syscalls/rlimits.hpp"
#include "vmm/view.hpp"

namespace vmm {
namespace {

bool is_restart(int64_t result) {
  return result == kRestartSys || result == kRestartNoHand || result == kRestartBlock;
}

// Vectors of the Intel SDM vol. 3, table 6-1, as Linux turns them into signals (arch/x86/kernel/traps.c).
Fault fault_of(ExitException const& e) {
  Fault f;
  switch (e.vector) {
    case 0:
      f.kind = FaultKind::kDivide, f.signal = SIGFPE, f.code = FPE_INTDIV;
      break;
    case 1:
      f.kind = FaultKind::kBreakpoint, f.signal = SIGTRAP, f.code = TRAP_TRACE;
      break;
    case 3:
      f.kind = FaultKind::kBreakpoint, f.signal = SIGTRAP, f.code = SI_KERNEL;
      break;
    case 6:
      f.kind = FaultKind::kIllegal, f.signal = SIGILL, f.code = ILL_ILLOPN;
      break;
    case 12:
      f.kind = FaultKind::kStackSegment, f.signal = SIGBUS, f.code = SI_KERNEL;
      break;
    case 14:
      f.kind = FaultKind::kPage, f.signal = SIGSEGV, f.code = SEGV_MAPERR, f.address = GuestAddr(e.cr2);
      f.access = (e.error_code & 16) != 0  ? FaultAccess::kExecute
                 : (e.error_code & 2) != 0 ? FaultAccess::kWrite
                                           : FaultAccess::kRead;
      break;
    case 16:
    case 19:
      f.kind = FaultKind::kFloat, f.signal = SIGFPE, f.code = FPE_FLTINV;
      break;
    case 17:
      f.kind = FaultKind::kAlignment, f.signal = SIGBUS, f.code = BUS_ADRALN;
      break;
    default:  // #GP and what else ring 3 can raise
      f.kind = FaultKind::kProtection, f.signal = SIGSEGV, f.code = SI_KERNEL;
      break;
  }
  return f;
}

}  // namespace

GuestThread::GuestThread(Process& process, int tid, Vcpu& vcpu, Pollers& pollers, CallSites& sites)
    : Thread(process, tid), vcpu_(vcpu), pollers_(pollers), seat_(pollers.seat(vcpu.index())), sites_(sites) {
  own_gs_base_ = vcpu.stub_address();
  immediate_exit_ = vcpu.immediate_exit();
}

void GuestThread::adopt_host_thread() {
  set_kick_target(immediate_exit_);
  if (!name_.empty()) set_thread_name(*this, name_);
  host_tid_.store(static_cast<int>(syscall(SYS_gettid)));
  process_.placement().adopt(host_tid_.load(), affinity);  // a pooled host thread still has that of the one before
}

void GuestThread::run() {
  if (set_child_tid && !memory().write(set_child_tid, tid_)) set_child_tid = GuestAddr();
  process_.hooks().on_thread_start(*this);
  if (resumed_) {
    resumed_ = false;
    if (gate(&call_) && call_) make_call({regs_.rax, {regs_.rdi, regs_.rsi, regs_.rdx, regs_.r10, regs_.r8, regs_.r9}});
    call_.reset();
    restart_deadline_ = 0;
    sent_ = 0;
  }
  while (gate()) {
    VmExit const exit = enter_guest();
    if (std::holds_alternative<ExitKicked>(exit)) continue;
    process_.stats().kvm_exits.fetch_add(1, std::memory_order_relaxed);
    if (auto const* call = std::get_if<ExitSyscall>(&exit)) {
      on_syscall_exit(*call);
    } else if (auto const* exception = std::get_if<ExitException>(&exit)) {
      on_exception(*exception);
    } else if (auto const* denied = std::get_if<ExitDenied>(&exit)) {
      on_denied(*denied);
    } else if (auto const* broken = std::get_if<ExitBroken>(&exit)) {
      process_.broken(broken->what);
    }
  }
  leave_view();
}

Result<void> GuestThread::enter_view() {
  auto view = process_.view();
  if (!view) return tl::unexpected(view.error());
  if (auto opened = (*view)->try_open(); !opened) return opened;
  view_ = *view;
  vcpu_.set_root(view_->root());
  return {};
}

Registers GuestThread::call_registers() const {
  return exitless_ ? seat_.registers() : regs_;
}

void GuestThread::leave_view() {
  if (view_ == nullptr) return;
  vcpu_.set_root(0);
  view_->close();
  view_ = nullptr;
}

bool GuestThread::read_code(uint64_t from, void* to, uint64_t size) {
  return view_ != nullptr ? view_->read(GuestAddr(from), to, size) : memory().read(GuestAddr(from), to, size);
}

bool GuestThread::look_up(GuestAddr addr, Vma& vma) const {
  return view_ != nullptr ? view_->find_vma(addr, vma) : memory().find_vma(addr, vma);
}

VmExit GuestThread::enter_guest() {
  state_.store(RunState::kGuest);
  if (kicked_.load() || process_.pausing() || process_.exiting()) {
    state_.store(RunState::kMonitor);
    return ExitKicked{};
  }
  pollers_.enter(seat_, *this, view_ == nullptr);  // what happens in a view is the layer above's to decide
  VmExit exit = vcpu_.run(regs_);
  pollers_.leave(seat_);
  exits_.store(exits() + 1, std::memory_order_relaxed);
  state_.store(RunState::kMonitor);
  return exit;
}

bool GuestThread::gate(std::optional<InterruptedCall>* call) {
  *immediate_exit_ = 0;
  kicked_.store(false);
  for (;;) {
    if (finished_ || process_.exiting()) return false;
    process_.park_if_pausing(*this, true);
    if (int const signal = forced_.exchange(0); signal != 0) {
      Fault f;
      f.kind = FaultKind::kForced;
      f.signal = signal;
      f.code = SI_KERNEL;
      f.in_call = call != nullptr;
      uint64_t const rip = regs_.rip, rsp = regs_.rsp;
      fault(f, nullptr);
      if (call != nullptr && (regs_.rip != rip || regs_.rsp != rsp)) call->reset();
      continue;
    }
    if (view_ != nullptr || !process_.signals().deliverable(*this)) return true;
    SignalOutcome const outcome = process_.signals().deliver(*this, call != nullptr && *call ? &**call : nullptr);
    if (outcome.kind == SignalOutcome::kHandler && call != nullptr) call->reset();
    if (!settle(outcome)) return false;
    if (outcome.kind == SignalOutcome::kNone) return true;
  }
}

// What a look at the signals led to. False: the process ends.
bool GuestThread::settle(SignalOutcome const& outcome) {
  if (outcome.kind != SignalOutcome::kTerminate) return true;
  if (outcome.self_sent) {
    Fault f;
    f.kind = FaultKind::kFatalSignal;
    f.signal = outcome.signal;
    f.code = SI_TKILL;
    if (process_.hooks().on_fault(*this, f) == FaultVerdict::kResume) return true;
  }
  end_by_signal(outcome);
  return false;
}

void GuestThread::end_by_signal(SignalOutcome const& outcome) {
  process_.exit_group(0, outcome.signal);
}

void GuestThread::on_syscall_exit(ExitSyscall const& exit) {
  switch (pollers_.settle(seat_, exit.place, exit.number)) {
    case PostFate::kAnswered:
      regs_.rax = static_cast<uint64_t>(seat_.result());
      return;
    case PostFate::kNotMade:
      if (exit.place <= StubPlace::kNotPosted && vcpu_.may_post(regs_.rax)) pollers_.note_exit(seat_);
      if (view_ == nullptr && (site_due_ || (!exit.direct && site_is_hot(regs_.rip)))) patch_site();
      if (exit.place > StubPlace::kNotPosted && regs_.rax < process_.stats().spun_out_calls.size()) {
        process_.stats().spun_out_calls[regs_.rax].fetch_add(1, std::memory_order_relaxed);
      }
      on_syscall();
      return;
    case PostFate::kDamaged:
      fmt::print(stderr, "vmsrs: thread {}: its mailbox was overwritten during a system call\n", tid_);
      Fault f;
      f.kind = FaultKind::kProtection;
      f.signal = SIGSEGV;
      f.code = SI_KERNEL;
      fault(f, nullptr);
  }
}

bool GuestThread::site_is_hot(uint64_t site) {
  return !process_.hooks().single_steps() && sites_.note(site);
}

// The call whose registers stand: its site is patched while nobody else is in the guest.
// A view that is open would not have the trampolines that are made now.
void GuestThread::patch_site() {
  site_due_ = false;
  if (process_.view_open()) return sites_.put_off(regs_.rip);
  call_ = InterruptedCall{regs_.rax, kRestartSys};  // for a checkpoint that comes first
  process_.pause_all(this);
  call_.reset();
  bool const now = !process_.view_open();
  bool const patched = now && sites_.patch(regs_.rip);
  process_.resume_all();
  if (!now) return sites_.put_off(regs_.rip);
  (patched ? process_.stats().sites_patched : process_.stats().sites_refused).fetch_add(1, std::memory_order_relaxed);
}

// On a poller's thread, while the guest thread spins inside the VM.
CallServer::Answer GuestThread::serve_posted(SyscallArgs const& call, uint64_t site) {
  if (!vcpu_.may_post(call.nr) || !exitless_now(call)) return {};
  site_due_ = site_due_ || site_is_hot(site);
  if (site_due_) return {};
  exitless_ = true;
  by_exit_ = false;
  int64_t const result = dispatch(call);
  exitless_ = false;
  if (is_restart(result)) return {by_exit_ ? Answer::kLeave : Answer::kMustWait};
  if (result == kRegistersSet) return {};
  restart_deadline_ = 0;
  served_.store(served_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  Stats& stats = process_.stats();
  stats.exitless_calls.fetch_add(1, std::memory_order_relaxed);
  if (call.nr < stats.exitless.size()) {
    stats.exitless[call.nr].fetch_add(1, std::memory_order_relaxed);
    stats.syscalls[call.nr].fetch_add(1, std::memory_order_relaxed);
  } else {
    stats.exitless_hypercalls.fetch_add(1, std::memory_order_relaxed);
    stats.hypercalls.fetch_add(1, std::memory_order_relaxed);
  }
  if (forced_.load() == 0 && !process_.signals().deliverable(*this)) return {Answer::kDone, result};
  kick();
  return {Answer::kDoneLeave, result};
}

void GuestThread::resume_in_call(InterruptedCall const& call, int64_t deadline, uint64_t sent) noexcept {
  call_ = call;
  restart_deadline_ = deadline;
  sent_ = sent;
  resumed_ = true;
}

void GuestThread::on_syscall() {
  make_call({regs_.rax, {regs_.rdi, regs_.rsi, regs_.rdx, regs_.r10, regs_.r8, regs_.r9}});
  call_.reset();
  restart_deadline_ = 0;
  sent_ = 0;
}

void GuestThread::make_call(SyscallArgs const& args) {
  for (;;) {
    int64_t const result = dispatch(args);
    if (result == kRegistersSet) break;
    if (!is_restart(result)) {
      regs_.rax = static_cast<uint64_t>(result);
      break;
    }
    call_ = InterruptedCall{args.nr, result};
    if (!gate(&call_)) return;
    if (!call_) break;  // the registers are a handler's, or recovery's
  }
}

int64_t GuestThread::dispatch(SyscallArgs const& args) {
  Stats& stats = process_.stats();
  if (args.nr >= kHypercallBase && args.nr < kHypercallEnd) {
    if (!exitless_) stats.hypercalls.fetch_add(1, std::memory_order_relaxed);
    return process_.hooks().on_hypercall(*this, args);
  }
  SyscallRow const* row = SyscallTable::instance().find(args.nr);
  if (row == nullptr) {
    bool const first = stats.unknown_syscalls.fetch_add(1, std::memory_order_relaxed) == 0 ||
                       (args.nr < stats.syscalls.size() && stats.syscalls[args.nr].load() == 0);
    if (args.nr < stats.syscalls.size()) stats.syscalls[args.nr].fetch_add(1, std::memory_order_relaxed);
    if (first && process_.verbose()) fmt::print(stderr, "vmsrs: system call {} is unknown here: ENOSYS\n", args.nr);
    return -ENOSYS;
  }
  if (!exitless_) stats.syscalls[args.nr].fetch_add(1, std::memory_order_relaxed);
  Hooks& hooks = process_.hooks();
  bool const hooked = hooks.wants_syscalls();
  if (hooked) {
    if (auto const answer = hooks.on_syscall_enter(*this, args)) return *answer;
  }
  int64_t const result = row->handler(*this, args);
  if (result == -ENOMEM) stats.memory_refused.fetch_add(1, std::memory_order_relaxed);
  if (result == -EMFILE || result == -ENFILE) stats.fds_refused.fetch_add(1, std::memory_order_relaxed);
  if (hooked) hooks.on_syscall_exit(*this, args, result);
  return result;
}

void GuestThread::on_exception(ExitException const& exception) {
  Fault f = fault_of(exception);
  ThreadSignals::Trap const trap{static_cast<uint64_t>(exception.vector), exception.error_code, exception.cr2};
  if (exception.vector == 14) {
    Vma vma;
    f.mapped = memory().find_vma(f.address, vma);
    if (f.mapped) f.code = SEGV_ACCERR;
  }
  fault(f, &trap);
}

// To the instruction before rip, which stores there. Where none is found what follows it counts as the one at fault.
void GuestThread::step_back(uint64_t not_stored) {
  for (unsigned length = 2; length <= kMaxInstruction; ++length) {
    uint8_t bytes[kMaxInstruction];
    if (!read_code(regs_.rip - length, bytes, length)) return;
    Registers before = regs_;
    before.rip -= length;
    DecodedInstruction const instruction = decode({bytes, length}, before);
    if (instruction.length != length) continue;
    for (unsigned i = 0; i < instruction.count; ++i) {
      MemoryAccess const& access = instruction.accesses[i];
      if (!access.write || (access.address.value & (kPageSize - 1)) != not_stored) continue;
      regs_ = before;
      return;
    }
  }
}

// The host mapping denied an access. KVM does not say which: decode the instruction.
void GuestThread::on_denied(ExitDenied const& exit) {
  if (exit.not_stored) step_back(*exit.not_stored);
  AddressSpace& space = memory();
  uint8_t bytes[kMaxInstruction];
  unsigned readable = 0;
  if (read_code(regs_.rip, bytes, sizeof bytes)) {
    readable = sizeof bytes;
  } else {
    while (readable < sizeof bytes && read_code(regs_.rip + readable, &bytes[readable], 1)) ++readable;
  }
  DecodedInstruction const instruction = decode({bytes, readable}, regs_);
  Fault f;
  f.kind = FaultKind::kPage;
  f.signal = SIGSEGV;
  f.code = SEGV_MAPERR;
  f.address = GuestAddr(regs_.rip);
  f.access = FaultAccess::kExecute;
  bool explained = readable == 0;
  bool beyond_file = false;
  for (unsigned i = 0; i < instruction.count && !explained; ++i) {
    MemoryAccess const& access = instruction.accesses[i];
    uint64_t const size = access.size == 0 ? 1 : access.size;
    for (uint64_t at = access.address.value; !explained; at = page_down(at) + kPageSize) {
      if (at >= access.address.value + size) break;
      if (view_ == nullptr && space.is_away(GuestAddr(at))) {
        process_.stats().missing_traps.fetch_add(1, std::memory_order_relaxed);
        if (process_.hooks().on_missing_pages(this, {access.address, size})) return;
      }
      Vma vma;
      bool const mapped = look_up(GuestAddr(at), vma);
      bool const allowed = mapped && (access.write ? (vma.prot & PROT_WRITE) != 0 : vma.prot != PROT_NONE);
      beyond_file = allowed && vma.backing == Backing::kSharedFile;
      if (allowed && !beyond_file) continue;
      explained = true;
      f.address = GuestAddr(at);
      f.access = access.write ? FaultAccess::kWrite : FaultAccess::kRead;
      f.access_size = access.size;
      f.mapped = mapped;
      f.code = mapped ? SEGV_ACCERR : SEGV_MAPERR;
    }
  }
  // The instruction may have been put right meanwhile by another thread (mprotect, a page back): try again, a few
  // times.
  if (!explained && readable != 0) {
    // With the same registers: a loop over pages that come back just now gets on all the time.
    denied_again_ = denied_at_ == regs_ ? denied_again_ + 1 : 0;
    denied_at_ = regs_;
    if (denied_again_ < 100) return;
  }
  denied_again_ = 0;
  if (beyond_file) f.signal = SIGBUS, f.code = BUS_ADRERR;
  uint64_t const error = 4u | (f.access == FaultAccess::kWrite ? 2u : 0u) | (f.mapped ? 1u : 0u);
  ThreadSignals::Trap const trap{14, error, f.address.value};
  fault(f, &trap);
}

void GuestThread::fault(Fault const& f, ThreadSignals::Trap const* trap) {
  process_.stats().faults.fetch_add(1, std::memory_order_relaxed);
  if (process_.hooks().on_fault(*this, f) == FaultVerdict::kResume) return;
  if (f.kind == FaultKind::kForced) return;  // nobody's any more
  siginfo_t info{};
  info.si_signo = f.signal;
  info.si_code = f.code;
  info.si_addr = reinterpret_cast<void*>(f.kind == FaultKind::kPage ? f.address.value : regs_.rip);
  if (f.code == SI_KERNEL) info.si_addr = nullptr;  // as force_sig() leaves it
  SignalOutcome const outcome = process_.signals().force(*this, info, trap);
  if (outcome.kind == SignalOutcome::kTerminate) end_by_signal(outcome);
}

}  // namespace vmm
