// The signal that makes a host thread leave KVM_RUN or an interruptible host call.
#pragma once

#include <csignal>
#include <cstdint>

namespace vmm {

inline int kick_signal() {
  return SIGRTMIN + 2;
}

// Installs the handler; once per process.
void install_kick_handler();
// The calling host thread's vCPU flag, set by the handler so that a kick just before KVM_RUN is not lost. Null: none.
void set_kick_target(uint8_t volatile* immediate_exit) noexcept;
// -EINTR after a kick.
extern "C" int64_t vmm_interruptible(bool const* kicked, long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3,
                                     uint64_t a4, uint64_t a5) noexcept;

}  // namespace vmm
