#include "runtime/inject/injector.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <vector>

#include "runtime/deadline_watch.hpp"

namespace vmsrs::runtime::inject {
namespace {

constexpr uint64_t kTrapFlag = 1 << 8;
constexpr uint64_t kMostSteps = 50'000;  // to a record that does not come, or to a place where a stray store may happen
constexpr auto kIdleTurn = std::chrono::milliseconds(1000);  // a thread that logs nothing for so long is not waited for
constexpr auto kPoll = std::chrono::microseconds(20);
constexpr uint64_t kRecordsOfPage = vmm::kPageSize / sizeof(srs_record);
constexpr uint64_t kWithinPage = 8;  // records stepped over at most behind a page's first

char const* name_of(vmm::FaultKind kind) {
  switch (kind) {
    case vmm::FaultKind::kPage:
      return "page";
    case vmm::FaultKind::kProtection:
      return "protection";
    case vmm::FaultKind::kDivide:
      return "divide";
    case vmm::FaultKind::kIllegal:
      return "illegal";
    case vmm::FaultKind::kAlignment:
      return "alignment";
    case vmm::FaultKind::kFloat:
      return "float";
    case vmm::FaultKind::kStackSegment:
      return "stack_segment";
    case vmm::FaultKind::kBreakpoint:
      return "breakpoint";
    case vmm::FaultKind::kFatalSignal:
      return "fatal_signal";
    case vmm::FaultKind::kForced:
      return "forced";
  }
  return "unknown";
}

bool is_restart(int64_t result) {
  return result == vmm::kRestartSys || result == vmm::kRestartNoHand || result == vmm::kRestartBlock;
}

// Code that holds locks of the whole process now and then.
bool in_shared_library(vmm::AddressSpace const& memory, uint64_t rip) {
  vmm::Vma vma;
  if (!memory.find_vma(vmm::GuestAddr(rip), vma)) return false;
  std::string_view const name = std::string_view(vma.name).substr(vma.name.rfind('/') + 1);
  for (char const* const library : {"libc.so", "libc-", "ld-", "libpthread", "libjemalloc", "libsrs"}) {
    if (name.starts_with(library)) return true;
  }
  return false;
}

bool is_hypercall_store(uint64_t nr) {
  return nr == SRS_HC_STORE || nr == SRS_HC_FETCH_OP;
}

}  // namespace

vmm::Result<std::unique_ptr<Injector>> Injector::create(Plan plan, std::string const& log_file,
                                                        vmm::AddressSpace& memory, Recovery* recovery) {
  auto log = Log::open(log_file);
  if (!log) return tl::unexpected(log.error());
  auto striker = Striker::create(memory, recovery);
  if (!striker) return tl::unexpected(striker.error());
  (*log)->plan(plan);
  return std::unique_ptr<Injector>(
      new Injector(std::move(plan), std::move(*log), std::move(*striker), memory, recovery));
}

Injector::Injector(Plan plan, std::unique_ptr<Log> log, std::unique_ptr<Striker> striker, vmm::AddressSpace& memory,
                   Recovery* recovery)
    : plan_(std::move(plan)),
      log_(std::move(log)),
      striker_(std::move(striker)),
      memory_(memory),
      recovery_(recovery),
      inner_(recovery != nullptr ? static_cast<vmm::Hooks&>(*recovery) : none_),
      started_ns_(monotonic_ns()) {}

Injector::~Injector() {
  {
    std::lock_guard const lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (timer_.joinable()) timer_.join();
}

double Injector::seconds() const {
  return static_cast<double>(monotonic_ns() - started_ns_) / 1e9;
}

bool Injector::begun() const {
  return monotonic_ns() - started_ns_ >= plan_.start_ms * 1'000'000;
}

Injection const* Injector::current() const {
  uint64_t const index = next_.load(std::memory_order_acquire);
  return index < plan_.injections.size() ? &plan_.injections[index] : nullptr;
}

bool Injector::fits(vmm::Thread& thread, Injection const& injection) const {
  if (injection.thread && *injection.thread != thread.tid()) return false;
  if (injection.where == Where::kAny) return true;
  if (recovery_ == nullptr) return false;
  auto const view = recovery_->look_at(thread);
  if (injection.where == Where::kProgram) return view.in_scope && !view.critical && !view.storing;
  return injection.where == Where::kScope ? view.in_scope : view.in_request;
}

// ---- triggers ----

void Injector::count(vmm::Thread& thread, At at, uint64_t nr) {
  Injection const* const injection = current();
  if (injection == nullptr || injection->at != at || !begun() || !fits(thread, *injection)) return;
  if (!injection->call.empty()) {
    auto const* const row = vmm::SyscallTable::instance().find(nr);
    if (row == nullptr || row->name != injection->call) return;
  }
  {
    std::lock_guard const lock(mutex_);
    if (assigned_ || current() != injection || ++counted_ < injection->n) return;
    assigned_ = true;
    last_count_ = counted_;
    threads_[thread.tid()].stage = Stage::kStopping;
  }
  thread.force_fault(SIGTRAP);
}

// The next page of each log: the first thread that comes to its own is the one.
void Injector::arm_store() {
  Injection const* const injection = current();
  if (injection == nullptr || recovery_ == nullptr) return;
  std::vector<Armed> found;
  std::vector<vmm::GuestAddr> pages;
  process_->for_each_thread([&](vmm::Thread& thread) {
    auto const view = recovery_->look_at(thread);
    if (view.slot == 0 || (injection->thread && *injection->thread != thread.tid())) return;
    uint64_t const first = (view.head + injection->n + kRecordsOfPage - 1) / kRecordsOfPage * kRecordsOfPage;
    uint64_t const page = view.ring + first % kRingRecords * sizeof(srs_record);
    found.push_back({thread.tid(), page, first + mix(injection->seed) % kWithinPage});
    pages.emplace_back(page);
  });
  std::lock_guard const lock(mutex_);
  if (found.empty() || assigned_ || !armed_.empty() || current() != injection || !memory_.take_away(pages)) return;
  armed_ = std::move(found);
}

// With the mutex held.
void Injector::disarm_store() {
  std::vector<vmm::GuestAddr> pages;
  for (Armed const& armed : armed_) pages.emplace_back(armed.page);
  armed_.clear();
  memory_.bring_back(pages);
}

bool Injector::on_missing_pages(vmm::Thread* thread, vmm::GuestRange range) {
  bool mine = false;
  {
    std::lock_guard const lock(mutex_);
    auto const hit = std::ranges::find_if(armed_, [&](Armed const& armed) {
      return range.start.value < armed.page + vmm::kPageSize && range.end().value > armed.page;
    });
    if (hit != armed_.end()) {
      mine = true;
      if (thread != nullptr && thread->tid() == hit->tid && !assigned_) {
        assigned_ = true;
        OfThread& state = threads_[thread->tid()];
        state.stage = Stage::kToRecord;
        state.stepped = 0;
        state.record = hit->record;
        thread->regs().rflags |= kTrapFlag;
      }
      disarm_store();
    }
  }
  return inner_.on_missing_pages(thread, range) || mine;
}

// The timer's thread: delays, and logs that are watched.
void Injector::run() {
  std::unique_lock lock(mutex_);
  uint64_t elapsed = UINT64_MAX;  // the injection whose delay is over
  wake_.wait_for(lock, std::chrono::milliseconds(plan_.start_ms), [&] { return stopping_; });
  while (!stopping_ && current() != nullptr) {
    uint64_t const index = next_;
    Injection const& injection = plan_.injections[index];
    auto const changed = [&] { return stopping_ || next_ != index; };
    if (injection.at == At::kDelay && !assigned_) {
      if (elapsed != index && wake_.wait_for(lock, std::chrono::microseconds(injection.after_us), changed)) continue;
      elapsed = index;
      if (!strike_by_delay(injection, lock)) wake_.wait_for(lock, kPoll, changed);
    } else if (injection.at == At::kStore && !assigned_ && recovery_ != nullptr && !recovery_->strict()) {
      lock.unlock();
      arm_store();
      lock.lock();
      bool const armed = !armed_.empty();
      // Also a trap that is over already, and came to nothing.
      auto const busy = [&] { return changed() || assigned_ || (armed && armed_.empty()); };
      if (!wake_.wait_for(lock, armed ? kIdleTurn : kIdleTurn / 500, busy) && !assigned_) disarm_store();
    } else {
      bool const assigned = assigned_;
      wake_.wait_for(lock, kIdleTurn, [&] { return changed() || assigned != assigned_; });
    }
  }
  disarm_store();
}

// One of the threads that are in the guest now and fit. False: there is none.
bool Injector::strike_by_delay(Injection const& injection, std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  std::vector<int> tids;
  process_->for_each_thread([&](vmm::Thread& thread) {
    if (thread.state() == vmm::RunState::kGuest && fits(thread, injection)) tids.push_back(thread.tid());
  });
  uint64_t const pick = tids.empty() ? 0 : mix(injection.seed ^ monotonic_ns()) % tids.size();
  lock.lock();
  if (tids.empty() || assigned_ || current() != &injection) return false;
  assigned_ = true;
  threads_[tids[pick]].stage = Stage::kStopping;
  lock.unlock();
  bool const alive = process_->with_thread(tids[pick], [](vmm::Thread& thread) { thread.force_fault(SIGTRAP); });
  lock.lock();
  if (!alive) give_up(threads_[tids[pick]]);
  return alive;
}

// ---- the thread that is to be struck ----

// With the mutex held: the same injection again, elsewhere.
void Injector::give_up(OfThread& state) {
  state.stage = Stage::kIdle;
  assigned_ = false;
  wake_.notify_all();
}

// The trigger has come, and the thread stands between two instructions. With the mutex held.
void Injector::go_on(vmm::Thread& thread, OfThread& state) {
  Injection const* const injection = current();
  if (injection == nullptr) return give_up(state);
  if (injection->where == Where::kProgram ? !recovery_->look_at(thread).in_scope : !fits(thread, *injection))
    return give_up(state);
  state.stage = Stage::kStepping;
  state.steps = injection->steps;
  state.stepped = 0;
  if (state.steps == 0) return strike(thread, state);
  thread.regs().rflags |= kTrapFlag;
}

void Injector::strike(vmm::Thread& thread, OfThread& state) {
  uint64_t const index = next_;
  Injection const& injection = plan_.injections[index];
  thread.regs().rflags &= ~kTrapFlag;
  Done done;
  done.index = index;
  done.thread = thread.tid();
  done.ip = thread.regs().rip;
  done.sp = thread.regs().rsp;
  done.count = injection.at == At::kStore && state.record != 0 ? state.record : last_count_;
  done.stepped = state.stepped;
  done.seconds = seconds();
  if (recovery_ != nullptr) {
    auto const view = recovery_->look_at(thread);
    done.in_scope = view.in_scope;
    done.in_request = view.in_request;
    done.critical = view.critical;
  }
  std::optional<Struck> struck;
  if (fits(thread, injection) && (injection.where != Where::kProgram || !in_shared_library(memory_, thread.regs().rip)))
    struck = striker_->strike(injection, thread);
  if (!struck) {
    if (!done.in_scope && injection.where == Where::kProgram) return give_up(state);
    state.stage = Stage::kStepping;
    state.steps = 1;
    thread.regs().rflags |= kTrapFlag;
    return;
  }
  done.struck = *struck;
  settle(state, "", 0, false);  // the one before came to nothing
  log_->injection(injection, done);
  state.awaited = static_cast<int64_t>(index);
  state.struck_at = done.seconds;
  carried_out_ += 1;
  counted_ = 0;
  next_ = index + 1;
  give_up(state);
}

void Injector::settle(OfThread& state, std::string const& fault, int signal, bool contained) {
  if (state.awaited < 0) return;
  log_->outcome(static_cast<uint64_t>(state.awaited), fault, signal, contained, (seconds() - state.struck_at) * 1e6);
  state.awaited = -1;
}

// A trap of our own? Then it is dealt with.
bool Injector::step(vmm::Thread& thread) {
  std::lock_guard const lock(mutex_);
  OfThread& state = threads_[thread.tid()];
  if (state.stage != Stage::kToRecord && state.stage != Stage::kStepping) return false;
  state.stepped += 1;
  Injection const* const injection = current();
  // Out of the scope there may be a long way to the next one, one instruction at a time.
  bool const on_the_way = injection != nullptr && state.stepped <= injection->steps + kMostSteps;
  if (state.stage == Stage::kToRecord) {
    auto const view = recovery_->look_at(thread);
    if (view.head > state.record) {
      thread.regs().rflags &= ~kTrapFlag;
      go_on(thread, state);
    } else if (!on_the_way || (!view.in_scope && injection->where != Where::kAny)) {
      thread.regs().rflags &= ~kTrapFlag;
      give_up(state);
    }
    return true;
  }
  if (!on_the_way || (injection->where != Where::kProgram && !fits(thread, *injection))) {
    thread.regs().rflags &= ~kTrapFlag;
    give_up(state);
    return true;
  }
  if (state.steps > 0) state.steps -= 1;
  if (state.steps == 0) strike(thread, state);
  return true;
}

vmm::FaultVerdict Injector::on_fault(vmm::Thread& thread, vmm::Fault const& fault) {
  if (fault.kind == vmm::FaultKind::kBreakpoint && fault.code == TRAP_TRACE && step(thread))
    return vmm::FaultVerdict::kResume;
  bool mine = false;
  {
    std::lock_guard const lock(mutex_);
    OfThread& state = threads_[thread.tid()];
    if (fault.kind == vmm::FaultKind::kForced) {
      mine = state.stage == Stage::kStopping;
    } else if (state.stage != Stage::kIdle) {  // it came to another fault on the way
      thread.regs().rflags &= ~kTrapFlag;
      give_up(state);
    }
  }
  vmm::FaultVerdict const verdict = pass_on(thread, fault);
  if (!mine) return verdict;
  std::lock_guard const lock(mutex_);
  OfThread& state = threads_[thread.tid()];
  if (state.stage != Stage::kStopping) return verdict;
  if (fault.in_call || thread.process().exiting()) {
    give_up(state);
  } else {
    go_on(thread, state);
  }
  return vmm::FaultVerdict::kResume;
}

// To recovery, or to the program itself; what an injection's outcome is shows in what it does.
vmm::FaultVerdict Injector::pass_on(vmm::Thread& thread, vmm::Fault const& fault) {
  uint64_t const ip = thread.regs().rip, sp = thread.regs().rsp;
  vmm::FaultVerdict const verdict = inner_.on_fault(thread, fault);
  bool const moved = thread.regs().rip != ip || thread.regs().rsp != sp;
  if (fault.kind == vmm::FaultKind::kForced && !moved) return verdict;
  bool const contained = verdict == vmm::FaultVerdict::kResume && !thread.process().exiting();
  std::lock_guard const lock(mutex_);
  OfThread& state = threads_[thread.tid()];
  if (moved && (state.stage == Stage::kToRecord || state.stage == Stage::kStepping)) {  // its steps are over
    thread.regs().rflags &= ~kTrapFlag;
    give_up(state);
  }
  settle(state, name_of(fault.kind), fault.signal, contained);
  return verdict;
}

// ---- the other hooks: counted, and passed on ----

void Injector::on_process_start(vmm::Process& process) {
  process_ = &process;
  inner_.on_process_start(process);
  timer_ = std::thread([this] { run(); });
}

void Injector::on_process_end(vmm::Process& process) {
  {
    std::lock_guard const lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (timer_.joinable()) timer_.join();
  inner_.on_process_end(process);
  std::lock_guard const lock(mutex_);
  for (auto& [tid, state] : threads_) settle(state, "", 0, false);
  log_->end(carried_out_, plan_.injections.size());
}

void Injector::on_thread_start(vmm::Thread& thread) {
  inner_.on_thread_start(thread);
}

void Injector::on_thread_end(vmm::Thread& thread) {
  {
    std::lock_guard const lock(mutex_);
    if (auto const found = threads_.find(thread.tid()); found != threads_.end()) {
      if (found->second.stage != Stage::kIdle) give_up(found->second);
      settle(found->second, "", 0, false);
      threads_.erase(found);
    }
    if (std::ranges::any_of(armed_, [&](Armed const& armed) { return armed.tid == thread.tid(); })) disarm_store();
  }
  inner_.on_thread_end(thread);
}

int64_t Injector::on_hypercall(vmm::Thread& thread, vmm::SyscallArgs const& args) {
  int64_t const result = inner_.on_hypercall(thread, args);
  count(thread, At::kHypercall, args.nr);
  if (recovery_ != nullptr && recovery_->strict() && is_hypercall_store(args.nr)) count(thread, At::kStore, args.nr);
  return result;
}

bool Injector::exitless_hypercall(uint64_t nr) const {
  return inner_.exitless_hypercall(nr);
}

std::optional<int64_t> Injector::on_syscall_enter(vmm::Thread& thread, vmm::SyscallArgs const& args) {
  if (!inner_.wants_syscalls()) return std::nullopt;
  auto const answer = inner_.on_syscall_enter(thread, args);
  if (answer && !is_restart(*answer)) count(thread, At::kCall, args.nr);
  return answer;
}

void Injector::on_syscall_write(vmm::Thread& thread, vmm::GuestRange range) {
  if (inner_.wants_syscalls()) inner_.on_syscall_write(thread, range);
}

void Injector::on_syscall_exit(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result) {
  if (inner_.wants_syscalls()) inner_.on_syscall_exit(thread, args, result);
  if (!is_restart(result)) count(thread, At::kCall, args.nr);
}

}  // namespace vmsrs::runtime::inject
