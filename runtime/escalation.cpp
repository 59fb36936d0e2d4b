// Faults after which the thread cannot simply land: in code that holds a lock of the whole process, and on the way of a
// landing itself.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "runtime/recovery.hpp"
#include "runtime/rescue/critical_code.hpp"

namespace vmsrs::runtime {
namespace {

constexpr unsigned kLandingsAgain = 16;

// What the C library says just before it ends the process over its heap, of those cases in which it holds no lock of
// the heap (glibc 2.36, malloc.c: the checks of tcache and the fast bins, and those before the arena's lock).
bool said_without_lock(std::string_view message) {
  constexpr std::array<std::string_view, 5> kMessages = {
      "free(): double free detected in tcache 2", "free(): invalid pointer", "free(): invalid size",
      "double free or corruption (fasttop)", "munmap_chunk(): invalid pointer"};
  return std::ranges::any_of(kMessages, [message](std::string_view m) { return message.starts_with(m); });
}

bool in_shared_library(Frame const& frame) {
  std::string_view const file = std::string_view(frame.module).substr(frame.module.rfind('/') + 1);
  constexpr std::array<std::string_view, 10> kFiles = {"libc.so",     "libc-",       "libpthread",  "ld-",
                                                       "libjemalloc", "libtcmalloc", "libmimalloc", "libevent",
                                                       "libuv",       "libdl"};
  return std::ranges::any_of(kFiles, [file](std::string_view known) { return file.starts_with(known); });
}

}  // namespace

// The text that the C library left for a debugger before it called abort(): of a failed assertion, or of its heap.
std::string Recovery::abort_message() const {
  uint64_t at = 0;
  uint32_t size = 0;
  std::string text;
  if (abort_message_ == 0 || !memory_.read(vmm::GuestAddr(abort_message_), at) || at == 0) return {};
  if (!memory_.read(vmm::GuestAddr(at), size) || memory_.read_string(vmm::GuestAddr(at + 4), text, 200) != 0) return {};
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

// Why the faulted thread must not be taken out of where it is; empty: it may. Its memory is right already. A deadline
// waits until such code is left, so it is not asked for.
std::string Recovery::cannot_be_cut_off(ThreadState const& state, Blow const& blow, FaultReport& report) {
  if (blow.kind == SRS_FAULT_DEADLINE || blow.kind == SRS_FAULT_DEPENDENT) return {};
  if (slots_.host(state.slot)->shared_locks != 0) return "inside the monitored heap, with a lock of it held";
  if (std::ranges::none_of(report.backtrace, in_shared_library)) return {};
  if (blow.kind == SRS_FAULT_ABORT && said_without_lock(report.why)) return {};
  symbols_.name(report.backtrace);
  return critical_code(report.backtrace, {}, true, symbols_);
}

// The process ends as of this fault, without its own handler: no thread may go on with what is there. (What the scope
// wrote could not be undone, or a lock that everybody needs is held for ever.)
void Recovery::escalate(FaultReport report, vmm::Registers const& at_fault) {
  process_->exit_group(0, report.signal != 0 ? report.signal : SIGABRT);
  uncontained_ += 1;
  if (report.backtrace.empty()) trace(report, at_fault);
  tell(std::move(report));
}

// Whether the thread is in the code that carries out its last abort.
bool Recovery::still_landing(ThreadState const& state) const {
  if (state.landing_fault == 0) return false;
  srs_slot const* slot = slots_.host(state.slot);
  uint64_t const depth = __atomic_load_n(&slot->depth, __ATOMIC_ACQUIRE);
  return slot->critical != 0 && state.landing_index < depth && depth <= SRS_MAX_DEPTH &&
         slot->landings[state.landing_index].owner == state.aborted_owner;
}

// A fault of the landing code: what it was giving back is broken (a lock whose memory is gone). It lands once more,
// and goes on behind that.
bool Recovery::land_again(vmm::Thread& thread, ThreadState& state, Blow const& blow) {
  srs_slot const* slot = slots_.host(state.slot);
  srs_landing landing = slot->landings[state.landing_index];
  FaultReport report = describe(thread, blow);
  faults_ += 1;
  report.id = faults_;
  report.user = slot->scopes[state.landing_index].user;
  state.landings_again += 1;
  bool const sound = landing.check == srs_landing_check(&landing, slots_.key(state.slot));
  if (!sound || slot->shared_locks != 0 || state.landings_again > kLandingsAgain) {
    report.outcome = !sound                    ? "not contained: the scope's landing record was damaged"
                     : slot->shared_locks != 0 ? "not contained: inside the monitored heap, with a lock of it held"
                                               : "not contained: the landing faults again and again";
    escalate(std::move(report), thread.regs());
    return true;
  }
  report.policy = "land";
  {
    std::lock_guard lock(abort_mutex_);
    restorer_.amend(state.landing_fault, [&](FaultReport& first) {
      first.not_whole.push_back(
          fmt::format("a fault while landing: {} at {:#x} (fault {})", name_of(blow.kind), report.ip, report.id));
    });
    trace(report, thread.regs());
    state.landing = true;
    report.outcome = "landed again";
    land(thread, landing, static_cast<unsigned>(state.landing_index), false, report);
  }
  contained_ += 1;
  tell(std::move(report));
  return true;
}

}  // namespace vmsrs::runtime
