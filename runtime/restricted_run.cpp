#include "runtime/restricted_run.hpp"

#include <sys/mman.h>

#include <algorithm>

#include "runtime/call_filter.hpp"
#include "runtime/recovery.hpp"
#include "vmm/decode.hpp"
#include "vmm/step_over.hpp"
#include "vmm/view.hpp"

namespace vmsrs::runtime {
namespace {

constexpr uint64_t kRedZone = 128;              // below RSP, of the interrupted function (System V ABI, 3.2.2)
constexpr uint64_t kRoomForTheAbort = 8 << 10;  // what libsrs's part needs of the scope's stack

// Whether anything is left to run behind such a fault: not behind the end of a stack, of a deadline, or abort().
bool leads_on(enum srs_fault_kind kind) {
  switch (kind) {
    case SRS_FAULT_LOAD:
    case SRS_FAULT_STORE:
    case SRS_FAULT_FETCH:
    case SRS_FAULT_NONCANONICAL:
    case SRS_FAULT_DIVIDE:
    case SRS_FAULT_ILLEGAL:
    case SRS_FAULT_REPORTED:
    case SRS_FAULT_POINTER:
    case SRS_FAULT_ALIGNMENT:
      return true;
    default:
      return false;
  }
}

// The called address was none: as if the call had returned 0.
bool return_from_call(vmm::View const& view, vmm::Registers& regs) {
  uint64_t back = 0;
  vmm::Vma code;
  if (!view.read(vmm::GuestAddr(regs.rsp), back) || !view.find_vma(vmm::GuestAddr(back), code)) return false;
  if ((code.prot & PROT_EXEC) == 0) return false;
  regs.rip = back;
  regs.rsp += 8;
  regs.rax = 0;
  return true;
}

}  // namespace

// After the abort, in place of a landing. False: this thread lands.
bool Recovery::prepare_run(vmm::Thread& thread, ThreadState& state, srs_landing const& landing, unsigned index,
                           Blow const& blow, FaultReport& report) {
  vmm::Registers& regs = thread.regs();
  bool const room = regs.rsp <= landing.stack_high && regs.rsp >= landing.stack_low + kRoomForTheAbort;
  if (run_pad_ == 0 || report.tainted || !leads_on(blow.kind) || !room) {
    report.run_end = report.tainted ? "not begun: the fault was in critical code"
                     : !room        ? "not begun: no room on the stack"
                                    : "not begun: nothing follows such a fault";
    return false;
  }
  auto run = std::make_unique<RestrictedRun>();
  if (!thread.get_xsave(run->xsave)) {
    report.run_end = "not begun: KVM_GET_XSAVE failed";
    return false;
  }
  run->landing = landing;
  run->index = index;
  run->regs = regs;
  run->fault = blow.fault;
  run->by_call = blow.by_call;
  run->faulted_ns = monotonic_ns();
  state.run = std::move(run);
  uint64_t const fs = regs.fs_base, gs = regs.gs_base;
  uint64_t const stack = ((regs.rsp - kRedZone) & ~UINT64_C(15)) - 8;  // as a call leaves it
  regs = {};
  regs.fs_base = fs;
  regs.gs_base = gs;
  regs.rip = run_pad_;
  regs.rdi = index;
  regs.rsp = stack;
  return true;
}

// SRS_HC_RUN, and every hypercall of a thread in the view: those have no effect.
int64_t Recovery::run_hypercall(vmm::Thread& thread, ThreadState& state, vmm::SyscallArgs const& args) {
  using Stage = RestrictedRun::Stage;
  if (state.run == nullptr) return -EINVAL;
  RestrictedRun& run = *state.run;
  if (args.nr != SRS_HC_RUN) {
    if (args.nr != SRS_HC_FAULT) return 0;
    run.faults += 1;
    bool const leads = run.stage == Stage::kRunning && leads_on(static_cast<enum srs_fault_kind>(args.a[0]));
    if (leads && run.faults <= options_.run_faults) return 0;
    end_run(thread, state, leads ? "too many faults" : "the thread gave up");
    return vmm::kRegistersSet;
  }
  if (args.a[0] == SRS_RUN_ENTER && run.stage == Stage::kPreparing) {
    if (auto entered = thread.enter_view(); !entered) {
      end_run(thread, state, "not begun: " + entered.error().message);
      return vmm::kRegistersSet;
    }
    run.stage = Stage::kEntered;
    return 0;
  }
  if (args.a[0] == SRS_RUN_GO && run.stage == Stage::kEntered) {
    thread.regs() = run.regs;
    if (!thread.set_xsave(run.xsave)) {
      end_run(thread, state, "not begun: KVM_SET_XSAVE failed");
      return vmm::kRegistersSet;
    }
    run.stage = Stage::kRunning;
    run.began_ns = monotonic_ns();
    uint64_t until = run.began_ns + options_.run_budget_ms * 1'000'000;
    uint64_t const deadline = slots_.host(state.slot)->scopes[run.index].deadline_ns;
    if (deadline != 0) until = std::min(until, deadline);
    state.run_until = until;
    if (run.by_call) {
      run.faults = 1;
      thread.regs().rax = 0;
    } else {
      run_over(thread, state, run.fault);
    }
    return vmm::kRegistersSet;
  }
  if (args.a[0] == SRS_RUN_END && run.stage == Stage::kRunning) {
    end_run(thread, state, "to the scope's end");
    return vmm::kRegistersSet;
  }
  return -EINVAL;
}

// A fault between the abort and the landing.
vmm::FaultVerdict Recovery::run_fault(vmm::Thread& thread, ThreadState& state, vmm::Fault const& fault) {
  bool const running = state.run->stage == RestrictedRun::Stage::kRunning;
  if (fault.kind == vmm::FaultKind::kForced) {
    // Other reasons to be stopped wait for the landing.
    if (running && monotonic_ns() >= state.run_until) end_run(thread, state, "out of time");
  } else if (!running) {
    end_run(thread, state, "not begun: a second fault");
  } else {
    run_over(thread, state, fault);
  }
  return vmm::FaultVerdict::kResume;
}

// Behind the instruction that faulted, in the view.
void Recovery::run_over(vmm::Thread& thread, ThreadState& state, vmm::Fault const& fault) {
  if (++state.run->faults > options_.run_faults) return end_run(thread, state, "too many faults");
  if (fault.kind == vmm::FaultKind::kBreakpoint) return;  // RIP is behind it already
  vmm::View const& view = *thread.view();
  vmm::Registers& regs = thread.regs();
  std::array<uint8_t, vmm::kMaxInstruction> bytes{};
  size_t readable = 0;
  while (readable < bytes.size() && view.read(vmm::GuestAddr(regs.rip + readable), bytes[readable])) ++readable;
  std::optional<vmm::SteppedOver> stepped = vmm::SteppedOver{.as_return = true};
  if (readable != 0) stepped = vmm::step_over(std::span(bytes).first(readable), regs);
  if (!stepped || (stepped->as_return && !return_from_call(view, regs))) {
    return end_run(thread, state, "nowhere to go on");
  }
  if (stepped->vectors == 0) return;
  std::array<std::byte, 4096> xsave;
  if (!thread.get_xsave(xsave)) return end_run(thread, state, "KVM_GET_XSAVE failed");
  vmm::clear_vectors(xsave, stepped->vectors);
  if (!thread.set_xsave(xsave)) end_run(thread, state, "KVM_SET_XSAVE failed");
}

std::optional<int64_t> Recovery::run_call(vmm::Thread& thread, ThreadState& state, vmm::SyscallArgs const& args) {
  FilteredCall const call = filter_call(thread, *thread.view(), args);
  if (call.ends_run) {
    end_run(thread, state, "the thread gave up");
    return vmm::kRegistersSet;
  }
  state.run->calls += call.truthful ? 0 : 1;
  return call.result;
}

// What it wrote is dropped; the thread lands.
void Recovery::end_run(vmm::Thread& thread, ThreadState& state, std::string const& why) {
  thread.leave_view();
  std::unique_ptr<RestrictedRun> const run = std::move(state.run);
  state.run_until = 0;
  state.landing = true;
  FaultReport landing;
  if (run->stage == RestrictedRun::Stage::kRunning) landing.outcome = "run";
  land(thread, run->landing, run->index, false, landing);
  uint64_t const now = monotonic_ns();
  state.last_fault.land_ns += now - run->faulted_ns;
  std::lock_guard lock(abort_mutex_);
  restorer_.amend(state.landing_fault, [&](FaultReport& report) {
    report.outcome = landing.outcome;
    report.run_end = why;
    report.run_faults = run->faults;
    report.run_calls = run->calls;
    report.run_us = run->began_ns == 0 ? 0 : static_cast<double>(now - run->began_ns) / 1e3;
    report.land_us += static_cast<double>(now - run->faulted_ns) / 1e3;
  });
}

void Recovery::strike_runs(uint64_t now_ns) {
  process_->for_each_thread([now_ns](vmm::Thread& thread) {
    ThreadState const* state = state_of(thread);
    uint64_t const until = state != nullptr ? state->run_until.load() : 0;
    if (until != 0 && until <= now_ns) thread.force_fault(SIGXCPU);
  });
}

}  // namespace vmsrs::runtime
