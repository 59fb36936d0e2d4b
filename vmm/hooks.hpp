// What the layer above may hear and decide. The monitor knows nothing of recovery: with no hooks
// installed, a fault goes to the guest's own handler or ends it, and hypercalls answer -ENOSYS.
//
// Every hook is called on the host thread of the guest thread concerned, in state kMonitor, with no lock of the monitor
// held; those around an exitless call on a poller's thread, which acts for the guest thread alone meanwhile.
// on_process_start runs before any guest code.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "vmm/guest_addr.hpp"
#include "vmm/syscall.hpp"

namespace vmm {

class Process;
class Thread;

enum class FaultKind : uint8_t {
  kPage,          // access to memory that is not mapped or not allowed so
  kProtection,    // #GP: non-canonical address, privileged instruction
  kDivide,        // #DE
  kIllegal,       // #UD
  kAlignment,     // #AC
  kFloat,         // #MF, #XM
  kStackSegment,  // #SS
  kBreakpoint,    // #BP, #DB
  kFatalSignal,   // the thread sent itself a signal that ends the process (default action, or SIGABRT with a handler)
  kForced         // Thread was asked to fault by the layer above (a deadline)
};

enum class FaultAccess : uint8_t { kUnknown, kRead, kWrite, kExecute };

struct Fault {
  FaultKind kind = FaultKind::kPage;
  FaultAccess access = FaultAccess::kUnknown;
  GuestAddr address;         // of the access, where known
  uint32_t access_size = 0;  // bytes, 0: unknown
  bool mapped = false;       // kPage: something is mapped there, but not for this access
  bool in_call = false;      // kForced: the thread was inside a system call
  int signal = 0;            // what Linux would send
  int code = 0;              // its si_code
};

enum class FaultVerdict {
  kPassOn,  // not mine: the guest's own handler, or death
  kResume   // the thread goes on with its (perhaps changed) registers
};

class Hooks {
 public:
  virtual ~Hooks() = default;
  virtual void on_process_start(Process&) {}
  virtual void on_process_end(Process&) {}
  virtual void on_thread_start(Thread&) {}
  virtual void on_thread_end(Thread&) {}
  virtual FaultVerdict on_fault(Thread&, Fault const&) { return FaultVerdict::kPassOn; }
  // A denied access to pages that were taken away: bring them back (AddressSpace::bring_back).
  // False: not mine.
  virtual bool on_missing_pages(Thread*, GuestRange) { return false; }
  // Numbers from kHypercallBase up. -ENOSYS: not mine.
  virtual int64_t on_hypercall(Thread&, SyscallArgs const&);
  // Whether a poller may make this one in the thread's place (vmm/pollers.hpp): it sets no register, forces no fault
  // and waits only through Thread::block_in(). Asked once, before the first thread starts.
  [[nodiscard]] virtual bool exitless_hypercall(uint64_t /*nr*/) const { return false; }
  // Around each system call of the table, and for each piece of guest memory that the host call will write; only where
  // wants_syscalls() says so.
  // A result: the call is not made, this is its answer (output held back); restart codes as of any handler.
  virtual std::optional<int64_t> on_syscall_enter(Thread&, SyscallArgs const&) { return std::nullopt; }
  virtual void on_syscall_write(Thread&, GuestRange) {}
  // The thread's signal mask has changed (a call, a handler's beginning or end); it was `before`.
  virtual void on_mask_change(Thread&, uint64_t /*before*/) {}
  virtual void on_syscall_exit(Thread&, SyscallArgs const&, int64_t /*result*/) {}
  [[nodiscard]] virtual bool wants_syscalls() const { return false; }
  // Whether threads are single-stepped (RFLAGS.TF): then no call site is patched (vmm/call_sites.hpp), since a trap in
  // the middle of the code that it leads to would lose its post. The `syscall` instruction's own code looks at the
  // flag.
  [[nodiscard]] virtual bool single_steps() const { return false; }
};

// System-call numbers from here on are hypercalls of the layer above; no kernel has them.
inline constexpr uint64_t kHypercallBase = 0x535200;
inline constexpr uint64_t kHypercallEnd = kHypercallBase + 256;

}  // namespace vmm
