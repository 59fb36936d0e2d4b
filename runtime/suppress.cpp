// A fault, step by step: whose scope, undo, landing (design.md section 4 items 1 to 5).
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <ctime>
#include <utility>

#include "runtime/backtrace.hpp"
#include "runtime/fault_kind.hpp"
#include "runtime/guest_view.hpp"
#include "runtime/recovery.hpp"
#include "runtime/urgent.hpp"
#include "vmm/decode.hpp"
#include "vmm/signal_frame.hpp"

namespace vmsrs::runtime {
namespace {

constexpr uint64_t kAutoDemandPages = 512;

uint64_t realtime_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

char const* name_of(vmm::FaultAccess access) {
  switch (access) {
    case vmm::FaultAccess::kRead:
      return "read";
    case vmm::FaultAccess::kWrite:
      return "write";
    case vmm::FaultAccess::kExecute:
      return "execute";
    case vmm::FaultAccess::kUnknown:
      break;
  }
  return "";
}

// Code of the C library and the dynamic linker may hold locks that the whole process needs: a deadline waits there.
bool in_shared_code(vmm::AddressSpace const& memory, uint64_t rip) {
  vmm::Vma vma;
  if (!memory.find_vma(vmm::GuestAddr(rip), vma)) return false;
  std::string_view const name = std::string_view(vma.name).substr(vma.name.rfind('/') + 1);
  return name.starts_with("libc.so") || name.starts_with("libc-") || name.starts_with("ld-linux") ||
         name.starts_with("ld-") || name.starts_with("libpthread") || name.starts_with("libjemalloc");
}

}  // namespace

// The landing record of the innermost scope, if it can be believed.
bool Recovery::innermost_landing(vmm::Thread& thread, ThreadState const& state, unsigned& depth,
                                 srs_landing& landing) const {
  srs_slot const* slot = slots_.host(state.slot);
  uint64_t const live = __atomic_load_n(&slot->depth, __ATOMIC_ACQUIRE);
  if (live == 0 || live > SRS_MAX_DEPTH) return false;
  depth = static_cast<unsigned>(live);
  std::memcpy(&landing, &slot->landings[live - 1], sizeof landing);
  return landing.check == srs_landing_check(&landing, slots_.key(state.slot)) &&
         srs_owner_slot(landing.owner) == state.slot && thread.memory().contains(vmm::GuestAddr(landing.rsp), 8);
}

FaultReport Recovery::describe(vmm::Thread& thread, Blow const& blow) {
  FaultReport report;
  vmm::Registers const& regs = thread.regs();
  report.when_ns = realtime_ns();
  report.thread = thread.tid();
  report.kind = blow.kind;
  report.signal = blow.fault.signal;
  report.address = blow.fault.address.value;
  report.access = name_of(blow.fault.access);
  report.ip = regs.rip;
  report.why = blow.why;
  if (report.kind == SRS_FAULT_ABORT && report.why.empty()) report.why = abort_message();
  return report;
}

// The call chain as it was at the fault: `regs` are those of then; the thread has not run since.
void Recovery::trace(FaultReport& report, vmm::Registers const& regs) {
  uint8_t bytes[vmm::kMaxInstruction];
  if (memory_.read(vmm::GuestAddr(regs.rip), bytes, sizeof bytes))
    report.instruction = vmm::disassemble(bytes, regs.rip);
  report.backtrace = backtrace(AddressSpaceView(memory_), regs);
}

// Whether the pages of a scope wait for their readers. Eager restoration costs some 50 ns a word, taking a page away
// and back some 7 us (docs/platform.md): worth it only where a page holds hundreds of words, and there are many.
bool Recovery::choose_demand(store::Owner scope, std::vector<uint64_t>& pages) {
  if (options_.restore == RestoreMode::kEager) return false;
  auto found = store_->pages_of(scope);
  if (!found) return false;
  if (options_.restore == RestoreMode::kAuto && found->size() < kAutoDemandPages) return false;
  pages = std::move(*found);
  return true;
}

// With the abort mutex held.
Recovery::Undone Recovery::undo(vmm::Thread& thread, ThreadState& state, srs_landing const& landing, unsigned index,
                                FaultReport& report) {
  srs_slot* const slot = slots_.host(state.slot);
  uint64_t const t0 = monotonic_ns();
  Undone undone;
  undone.demand = choose_demand(landing.owner, undone.candidates) && restorer_.take_away(undone.candidates);
  auto result = store_->abort(landing.owner, undone.demand ? store::Restore::demand : store::Restore::eager);
  report.restore = undone.demand ? "demand" : "eager";
  if (!result) {
    report.outcome = fmt::format("not contained: not undone: {}", result.error().message);
    (void)store_result(tl::unexpected(result.error()));
    return undone;
  }
  undone.done = true;
  report.words_polluted = result->words_polluted;
  report.words_spliced = result->words_spliced;
  report.by_eager = undone.demand ? 0 : result->words_restored;
  report.pages = result->pages.size();
  report.exposed = result->exposed;
  report.dependents = result->dependents.size();
  report.damaged_records = result->damaged;
  report.unordered_records = result->unordered;
  slot->owner = result->outer;
  report.wild_undone = result->wild.undone;
  report.unexplained = result->wild.left;
  report.wild_addresses = std::move(result->wild.addresses);
  state.actions.clear();
  for (store::Action const& action : result->actions) {
    state.actions.push_back({static_cast<uint64_t>(action.kind), action.arg, action.detail});
    (action.kind == SRS_ACT_FREE ? report.blocks_freed : report.locks_released) += 1;
  }
  uint64_t const from = first_number(state, index);
  state.held.drop_from(from);
  undo_effects(thread, state, from, report);
  if (state.held.empty() && !state.effects.keeps_closed()) slot->wants_commit = 0;
  report.abort_us = static_cast<double>(monotonic_ns() - t0) / 1e3;
  undone.polluted = std::move(result->pages);
  undone.dependents = std::move(result->dependents);
  return undone;
}

// Live scopes that built on an undone value are undone too: each by its own thread, at its next gate.
void Recovery::strike_dependents(std::vector<store::Owner> const& dependents) {
  for (store::Owner const owner : dependents) {
    process_->for_each_thread([&](vmm::Thread& thread) {
      ThreadState* state = state_of(thread);
      if (state == nullptr || state->slot != srs_owner_slot(owner)) return;
      state->forced_owner = owner;
      state->forced_kind = SRS_FAULT_DEPENDENT;
      thread.force_fault(SIGABRT);
    });
  }
}

// A dependent that was in critical code at its gate: its fault still waits.
void Recovery::strike_again() {
  process_->for_each_thread([](vmm::Thread& thread) {
    ThreadState const* state = state_of(thread);
    if (state != nullptr && state->forced_kind == SRS_FAULT_DEPENDENT) thread.force_fault(SIGABRT);
  });
}

void Recovery::land(vmm::Thread& thread, srs_landing const& landing, unsigned index, bool unwind, FaultReport& report) {
  vmm::Registers& regs = thread.regs();
  if (unwind) {
    // As a signal handler that interrupts the faulting instruction: unwinders walk through such a frame.
    vmm::KernelSigaction const action{unwind_pad_, SA_SIGINFO | vmm::kSaRestorer, restorer_code_, 0};
    vmm::PendingSignal signal;
    signal.signal = report.signal != 0 ? report.signal : SIGSEGV;
    signal.info.si_signo = signal.signal;
    if (vmm::build_signal_frame(thread, signal, action, thread.signals().blocked.load())) {
      regs.rdi = index;
      report.outcome = "unwound";
      return;
    }
  }
  uint64_t const fs = regs.fs_base, gs = regs.gs_base;
  regs = {};
  regs.fs_base = fs;
  regs.gs_base = gs;
  regs.rip = landing_pad_;
  regs.rdi = index;
  regs.rsp = landing.rsp;
  regs.rbx = landing.rbx;
  regs.rbp = landing.rbp;
  regs.r12 = landing.r12;
  regs.r13 = landing.r13;
  regs.r14 = landing.r14;
  regs.r15 = landing.r15;
  if (report.outcome.empty()) report.outcome = "landed";
}

// The thread is back in its program (or will never be): the last figure of its fault's report.
void Recovery::landing_over(vmm::Thread& thread, ThreadState& state) {
  uint64_t const fault = std::exchange(state.landing_fault, 0);
  if (fault == 0) return;
  {
    std::lock_guard lock(abort_mutex_);
    restorer_.landed(fault, thread.exits() - state.exits_before);
  }
  tell_finished();
}

bool Recovery::suppress(vmm::Thread& thread, Blow const& blow) {
  ThreadState* state = state_of(thread);
  if (state == nullptr || !attached_) return false;
  if (still_landing(*state)) return land_again(thread, *state, blow);
  landing_over(thread, *state);  // struck again on the way
  uint64_t const t0 = monotonic_ns();
  unsigned depth = 0;
  srs_landing landing{};
  faults_ += 1;
  if (!innermost_landing(thread, *state, depth, landing)) {
    FaultReport report = describe(thread, blow);
    report.id = faults_;
    srs_slot const* slot = slots_.host(state->slot);
    report.outcome = __atomic_load_n(&slot->depth, __ATOMIC_ACQUIRE) == 0
                         ? "not contained: outside every scope"
                         : "not contained: the scope's landing record was damaged";
    trace(report, thread.regs());
    uncontained_ += 1;
    tell(report);
    return false;
  }
  // A landing that unwinds destructors is named by the owner; the deadline of an outer scope by its own.
  unsigned index = depth - 1;
  if (blow.kind == SRS_FAULT_DEADLINE || blow.kind == SRS_FAULT_DEPENDENT) {
    uint64_t const wanted = state->forced_owner.load();
    srs_slot const* slot = slots_.host(state->slot);
    for (unsigned i = 0; i < depth; ++i) {
      srs_landing outer;
      std::memcpy(&outer, &slot->landings[i], sizeof outer);
      if (outer.owner != wanted || outer.check != srs_landing_check(&outer, slots_.key(state->slot))) continue;
      landing = outer;
      index = i;
    }
  }
  srs_slot* const slot = slots_.host(state->slot);
  srs_scope_info const info = slot->scopes[index];
  FaultReport report = describe(thread, blow);
  report.id = faults_;
  report.depth = depth;
  report.user = info.user;
  report.isolation = name_of(static_cast<enum srs_isolation>(info.isolation));
  report.tainted = slot->critical != 0;
  report.output_before_abort = state->output_sent && first_number(*state, index) <= state->output_number;
  report.lock_cycles = state->lock_cycles;
  state->lock_cycles = 0;
  bool const unwind =
      info.policy == SRS_UNWIND && unwind_pad_ != 0 && blow.kind != SRS_FAULT_STACK && index == depth - 1;
  report.policy = info.policy == SRS_RUN ? "run" : unwind ? "unwind" : "land";
  vmm::Registers const at_fault = thread.regs();
  Undone undone;
  {
    Urgent const urgent;
    std::unique_lock lock(abort_mutex_);
    if (options_.undo) {
      undone = undo(thread, *state, landing, index, report);
    } else {
      report.outcome = "not undone: undo is switched off";
    }
    if (options_.suppress && (undone.done || !options_.undo)) {
      state->landing = true;
      state->aborted_owner = landing.owner;
      state->landing_index = index;
      state->landings_again = 0;
      bool const runs =
          info.policy == SRS_RUN && report.outcome.empty() && prepare_run(thread, *state, landing, index, blow, report);
      if (!runs) land(thread, landing, index, unwind, report);
    }
    report.land_us = static_cast<double>(monotonic_ns() - t0) / 1e3;
    if (undone.demand && undone.done) {
      trace(report, at_fault);  // the report stays with the pages
      uint64_t const due = monotonic_ns() + options_.sweep_after_ms * 1'000'000;
      restorer_.keep(undone.candidates, undone.polluted, report, due);
    }
  }
  if (options_.undo && !undone.done) {
    escalate(std::move(report), at_fault);
    return true;
  }
  strike_dependents(undone.dependents);
  if (!undone.demand) trace(report, at_fault);  // memory is right: this costs nobody but the faulted user
  if (options_.suppress) {
    if (std::string const why = cannot_be_cut_off(*state, blow, report); !why.empty()) {
      report.outcome = "not contained: " + why;
      escalate(std::move(report), at_fault);
      return true;
    }
  }
  if (!undone.demand) {
    std::lock_guard lock(abort_mutex_);
    restorer_.keep({}, {}, report, UINT64_MAX);
  }
  state->landing_fault = report.id;
  state->exits_before = thread.exits() - 1;
  if (!options_.suppress) {
    landing_over(thread, *state);
    return false;
  }
  contained_ += 1;

  srs_fault_info& last = state->last_fault;
  last = {};
  last.kind = blow.kind;
  last.signal = static_cast<uint32_t>(blow.fault.signal);
  last.address = report.address;
  last.ip = report.ip;
  last.user = info.user;
  last.words_polluted = report.words_polluted;
  last.exposed = report.exposed;
  last.abort_ns = static_cast<uint64_t>(report.abort_us * 1e3);
  last.land_ns = static_cast<uint64_t>(report.land_us * 1e3);
  last.flags = state->answer_number >= first_number(*state, index) ? SRS_INFO_OUTPUT_LEFT : 0;
  std::string const what =
      fmt::format("{} at {:#x}{}{}", name_of(blow.kind), report.ip, blow.why.empty() ? "" : ": ", blow.why);
  std::strncpy(last.what, what.c_str(), sizeof last.what - 1);
  return true;
}

// A deadline, or an aborted scope that this thread's scope built on.
vmm::FaultVerdict Recovery::forced(vmm::Thread& thread, vmm::Fault const& fault) {
  ThreadState* state = state_of(thread);
  if (state == nullptr) return vmm::FaultVerdict::kResume;
  auto const kind = static_cast<enum srs_fault_kind>(state->forced_kind.load());
  if (kind == SRS_FAULT_NONE) return vmm::FaultVerdict::kResume;
  srs_slot const* slot = slots_.host(state->slot);
  // Inside the allocator or the C library it waits: the watch, or this thread's next gate, comes back to it.
  if (slot->critical != 0 || state->landing || (!fault.in_call && in_shared_code(thread.memory(), thread.regs().rip))) {
    return vmm::FaultVerdict::kResume;
  }
  state->forced_kind = SRS_FAULT_NONE;
  if (state->forced_owner == state->aborted_owner) return vmm::FaultVerdict::kResume;  // its destructors run
  bool live = false;
  for (unsigned i = 0; i < SRS_MAX_DEPTH && i < slot->depth; ++i)
    live = live || slot->landings[i].owner == state->forced_owner;
  if (!live) return vmm::FaultVerdict::kResume;  // the scope ended in time
  Blow blow;
  blow.kind = kind;
  blow.fault = fault;
  blow.why = kind == SRS_FAULT_DEADLINE ? "missed its deadline" : "built on the value of a scope that was aborted";
  suppress(thread, blow);
  return vmm::FaultVerdict::kResume;
}

vmm::FaultVerdict Recovery::on_fault(vmm::Thread& thread, vmm::Fault const& fault) {
  ThreadState* state = state_of(thread);
  if (state != nullptr && state->run != nullptr) return run_fault(thread, *state, fault);
  if (fault.kind == vmm::FaultKind::kForced) {
    auto const strike = rescue_ ? rescue_->struck(thread, fault) : std::nullopt;
    return strike ? on_fault(thread, *strike) : forced(thread, fault);
  }
  unsigned depth = 0;
  srs_landing landing{};
  bool const scoped = state != nullptr && innermost_landing(thread, *state, depth, landing);
  Blow blow;
  blow.fault = fault;
  blow.kind = fault_kind(fault, thread.regs(), scoped ? &landing : nullptr);
  if (fault.kind == vmm::FaultKind::kFatalSignal && fault.signal != SIGABRT) blow.why = strsignal(fault.signal);
  if (rescue_ && !scoped) return rescue_->on_fault(thread, fault, describe(thread, blow));
  return suppress(thread, blow) ? vmm::FaultVerdict::kResume : vmm::FaultVerdict::kPassOn;
}

bool Recovery::on_missing_pages(vmm::Thread* thread, vmm::GuestRange range) {
  std::unique_lock lock(abort_mutex_);
  // A logged store in progress names the word it is about to overwrite.
  uint64_t word = 0;
  if (ThreadState* state = thread != nullptr ? state_of(*thread) : nullptr) {
    if (slots_.host(state->slot)->pending != 0) word = range.start.value & ~UINT64_C(7);
  }
  bool any = false;
  for (uint64_t page = vmm::page_down(range.start.value); page < range.end().value; page += vmm::kPageSize) {
    any |= restorer_.restore(page, word != 0 ? store::Reason::overwrite : store::Reason::trap, word);
  }
  lock.unlock();
  tell_finished();
  return any;
}

void Recovery::tell(FaultReport report) {
  symbols_.name(report.backtrace);
  reporter_->report(report);
  if (options_.on_report) options_.on_report(report);
}

// Reports whose last page is back.
void Recovery::tell_finished() {
  std::vector<FaultReport> done;
  {
    std::lock_guard lock(abort_mutex_);
    done = restorer_.finished();
  }
  for (FaultReport& report : done) tell(std::move(report));
}

void Recovery::undo_effects(vmm::Thread& thread, ThreadState& state, uint64_t from, FaultReport& report) {
  state.effects.undo(thread, from, report);
  auto const first = std::ranges::find_if(state.masks, [from](MaskBefore const& m) { return m.number >= from; });
  if (first == state.masks.end()) return;
  uint64_t const mask = first->mask;
  state.masks.erase(first, state.masks.end());
  thread.signals().saved_mask.reset();
  thread.process().signals().set_blocked(thread, mask);
  std::erase_if(state.masks, [from](MaskBefore const& m) { return m.number >= from; });
}

}  // namespace vmsrs::runtime
