// Which system calls may be served by a poller, and how one of them is tried without waiting.
#pragma once

#include <cstdint>

#include "vmm/syscall.hpp"
#include "vmm/syscall_stub.hpp"

namespace vmm {

// The calls whose handlers touch nothing that belongs to the calling host thread, and which either never wait or can be
// tried by try_host_call(). Hypercalls are the layer above's to add (Hooks::exitless_hypercall).
PostableCalls exitless_calls();
// Whether this very call may be: not with a temporary signal mask, which only the thread itself can wait under.
[[nodiscard]] bool exitless_now(SyscallArgs const& call) noexcept;

// A handler's host call that may wait, carried out only if it need not. Arguments are the host's.
struct Tried {
  enum {
    kDone,
    kWouldWait,  // it did not happen; another try may do better
    kNotHere,    // it did not happen: only the thread itself can make this call
    kInPart      // a write of which `result` bytes were taken; the thread itself must wait for the rest
  } kind = kNotHere;
  int64_t result = 0;
};
Tried try_host_call(long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) noexcept;

}  // namespace vmm
