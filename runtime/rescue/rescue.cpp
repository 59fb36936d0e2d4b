#include "runtime/rescue/rescue.hpp"

#include <fmt/format.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "runtime/backtrace.hpp"
#include "runtime/deadline_watch.hpp"
#include "runtime/guest_view.hpp"
#include "runtime/rescue/fault_chain.hpp"
#include "runtime/rescue/held_locks.hpp"
#include "srs/abi.h"
#include "vmm/decode.hpp"

namespace vmsrs::runtime {

static_assert(int{SRS_HC_RESCUE_ATTACH} >= int{SRS_HC_END} && SRS_HC_RESCUE_DONE < vmm::kHypercallEnd);

namespace {

constexpr size_t kReportedFrames = 32;
constexpr uint64_t kNameBytes = 128;
constexpr uint64_t kStackReach = 1 << 16;
constexpr size_t kPlaces = 10'000;  // remembered by the loop breaker

LandingPad* pad_of(vmm::Thread& thread) {
  return static_cast<LandingPad*>(thread.rescue_data);
}

// Just below where the stack ends, and the stack pointer is there too.
bool overflows(vmm::Thread& thread, LandingPad const& pad, vmm::Fault const& fault) {
  vmm::Vma stack;
  if (fault.kind != vmm::FaultKind::kPage || !thread.memory().find_vma(vmm::GuestAddr(pad.stack_low()), stack))
    return false;
  uint64_t const low = stack.start.value;
  return low - fault.address.value - 1 < kStackReach && thread.regs().rsp - (low - kStackReach) < 2 * kStackReach;
}

}  // namespace

Rescue::Rescue(RescueOptions const& options, Reporter& reporter, Symbols& symbols, std::atomic<uint64_t>& faults)
    : options_(options),
      reporter_(reporter),
      symbols_(symbols),
      faults_(faults),
      probe_(options.probe_ms,
             [this](std::string const& wrong) {
               FaultReport report;
               report.id = ++faults_;
               report.kind = SRS_FAULT_REPORTED;
               report.policy = "rescue";
               {
                 std::lock_guard const lock(mutex_);
                 report.signal = last_signal_;
               }
               escalate(std::move(report), "after a rescue the server did not pass its health probe: " + wrong);
             }),
      strikes_(options) {}

Rescue::~Rescue() {
  on_process_end();
}

void Rescue::on_process_start(vmm::Process& process) {
  process_ = &process;
  strikes_.start(process);
}

void Rescue::on_process_end() {
  strikes_.stop();
  probe_.stop();
}

void Rescue::on_thread_start(vmm::Thread& thread) {
  auto pad = std::make_unique<LandingPad>(thread.regs().rsp);
  // Under the process's thread list: strikes read it there.
  thread.process().with_thread(thread.tid(), [&](vmm::Thread& t) { t.rescue_data = pad.release(); });
}

void Rescue::on_thread_end(vmm::Thread& thread) {
  std::unique_ptr<LandingPad> pad;
  thread.process().with_thread(thread.tid(), [&](vmm::Thread& t) {
    pad.reset(pad_of(t));
    t.rescue_data = nullptr;
  });
}

bool Rescue::serving(vmm::Thread& thread) {
  LandingPad const* const pad = pad_of(thread);
  return pad != nullptr && pad->serving();
}

void Rescue::on_syscall_exit(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result) {
  LandingPad* const pad = pad_of(thread);
  if (pad == nullptr) return;
  pad->after_call(thread, args, result);
  if (args.nr == SYS_listen && result == 0) {
    if (auto const file = thread.fds().get(static_cast<int>(args.a[0]))) probe_.listening(file->host_fd());
  }
  if (pad->serving()) strikes_.after_call(thread, args.nr);
}

std::optional<vmm::Fault> Rescue::struck(vmm::Thread& thread, vmm::Fault const& fault) {
  LandingPad const* const pad = pad_of(thread);
  if (options_.strikes == 0 || fault.in_call || pad == nullptr || !pad->serving()) return std::nullopt;
  strikes_.counted();
  vmm::Fault made = fault;
  made.kind = vmm::FaultKind::kPage;
  made.access = vmm::FaultAccess::kUnknown;
  return made;
}

// ---- what libsrs_rescue asks for ----

std::optional<int64_t> Rescue::on_hypercall(vmm::Thread& thread, vmm::SyscallArgs const& args) {
  vmm::GuestAddr const at(args.a[0]);
  switch (args.nr) {
    case SRS_HC_RESCUE_ATTACH:
      return attach(thread, at);
    case SRS_HC_RESCUE_THREAD: {
      if (thread.memory().alias(at) == nullptr || !thread.memory().contains(at, sizeof(srs_rescue_holds)) ||
          at.value % alignof(srs_rescue_holds) != 0)
        return -EFAULT;
      pad_of(thread)->set_holds(at);
      return 0;
    }
    case SRS_HC_RESCUE_ADAPTER:
      return adapter(thread, at);
    case SRS_HC_RESCUE_DONE: {
      LandingPad* const pad = pad_of(thread);
      if (!pad->rescued_now) return -EINVAL;
      uint64_t const fs = thread.regs().fs_base, gs = thread.regs().gs_base;
      thread.regs() = pad->registers();
      thread.regs().fs_base = fs;
      thread.regs().gs_base = gs;
      return vmm::kRegistersSet;
    }
    default:
      return std::nullopt;
  }
}

int64_t Rescue::attach(vmm::Thread& thread, vmm::GuestAddr at) {
  srs_rescue_attach info{};
  if (!thread.memory().read(at, info)) return -EFAULT;
  if (info.version != SRS_RESCUE_VERSION || info.size != sizeof info) return -EPROTO;
  pad_code_ = info.pad;
  return 0;
}

int64_t Rescue::adapter(vmm::Thread& thread, vmm::GuestAddr at) {
  srs_rescue_adapter info{};
  if (!thread.memory().read(at, info)) return -EFAULT;
  if (info.version != SRS_RESCUE_VERSION || info.size != sizeof info) return -EPROTO;
  auto const text = [&](char const* from, std::string& to) {
    return from == nullptr ||
           thread.memory().read_string(vmm::GuestAddr(reinterpret_cast<uint64_t>(from)), to, kNameBytes) == 0;
  };
  CriticalNames names;
  names.stretch = info.critical_stretch;
  vmm::GuestAddr const list(reinterpret_cast<uint64_t>(info.critical));
  for (uint64_t i = 0; list && i < SRS_RESCUE_NAMES; ++i) {
    uint64_t from = 0;
    if (!thread.memory().read(list + i * sizeof from, from)) return -EFAULT;
    if (from == 0) break;
    if (thread.memory().read_string(vmm::GuestAddr(from), names.beginnings.emplace_back(), kNameBytes) != 0)
      return -EFAULT;
  }
  std::string send, expect;
  if (!text(info.probe_send, send) || !text(info.probe_expect, expect)) return -EFAULT;
  if (info.probe_send != nullptr) probe_.question(send, expect);
  std::lock_guard const lock(mutex_);
  names_ = std::move(names);
  return 0;
}

// ---- faults ----

bool Rescue::loops(uint64_t ip) {
  uint64_t const now = monotonic_ns();
  std::lock_guard const lock(mutex_);
  if (at_.size() > kPlaces) at_.clear();
  auto& times = at_[ip];
  std::erase_if(times, [&](uint64_t then) { return now - then > options_.loop_ms * 1'000'000; });
  times.push_back(now);
  return times.size() > options_.loop_faults;
}

// The guard: why this thread must not be rescued; empty: it may. `release`: its locks to be given back.
std::string Rescue::forbidden(vmm::Thread& thread, LandingPad& pad, FaultReport& report, uint64_t& release) {
  if (char const* const why = pad.refusal(thread)) return std::string("no request is being served: ") + why;
  FaultChain chain = fault_chain(thread, pad, symbols_);
  report.backtrace.assign(chain.frames.begin(),
                          chain.frames.begin() + static_cast<long>(std::min(chain.frames.size(), kReportedFrames)));
  if (pad_code_ == 0) return "its locks are not known: libsrs_rescue.so is not preloaded";
  if (pad.serves_again() && !pad.is_event_loop()) return "its thread has been rescued before, and was used again";
  if (!chain.complete) return "its call chain does not lead to the read";
  HeldLocks const locks = held_locks(thread, pad);
  CriticalNames names;
  {
    std::lock_guard const lock(mutex_);
    names = names_;
  }
  std::string critical = critical_code(chain.frames, names, locks.doubt.empty(), symbols_);
  if (!critical.empty()) return critical;
  if (!locks.doubt.empty()) return locks.doubt;
  if (loops(thread.regs().rip)) return "too many faults at one place";
  release = locks.release;
  report.locks_released = locks.count;
  return {};
}

vmm::FaultVerdict Rescue::on_fault(vmm::Thread& thread, vmm::Fault const& fault, FaultReport report) {
  if (thread.process().exiting()) return vmm::FaultVerdict::kResume;  // nothing is to be rescued any more
  uint64_t const t0 = monotonic_ns();
  LandingPad* const pad = pad_of(thread);
  report.id = ++faults_;
  report.policy = "rescue";
  if (pad != nullptr && overflows(thread, *pad, fault)) report.kind = SRS_FAULT_STACK;
  uint8_t bytes[vmm::kMaxInstruction];
  vmm::Registers const at_fault = thread.regs();
  if (thread.memory().read(vmm::GuestAddr(at_fault.rip), bytes, sizeof bytes))
    report.instruction = vmm::disassemble(bytes, at_fault.rip);
  uint64_t release = 0;
  std::string const cause = pad == nullptr ? "no request is being served" : forbidden(thread, *pad, report, release);
  if (!cause.empty()) {
    if (report.backtrace.empty()) {
      report.backtrace = backtrace(AddressSpaceView(thread.memory()), at_fault);
      symbols_.name(report.backtrace);
    }
    escalate(std::move(report), cause);
    return vmm::FaultVerdict::kResume;  // to its end
  }
  {
    std::lock_guard const lock(mutex_);
    last_signal_ = report.signal;
  }
  pad->put_back(thread);
  pad->note_rescue();
  pad->go_back(thread, pad_code_, release);
  report.outcome = "rescued";
  report.land_us = static_cast<double>(monotonic_ns() - t0) / 1e3;
  report.exits = 1;
  reporter_.report(report);
  probe_.ask();
  return vmm::FaultVerdict::kResume;
}

void Rescue::escalate(FaultReport report, std::string const& cause) {
  report.outcome = "not contained: not rescued: " + cause;
  reporter_.report(report);
  process_->exit_group(0, report.signal != 0 ? report.signal : SIGABRT);
}

}  // namespace vmsrs::runtime
