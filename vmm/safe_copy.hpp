// A copy that survives faults on either side: the monitor's SIGSEGV/SIGBUS handler resumes at its end.
#pragma once

#include <cstdint>

namespace vmm {

// Copies n bytes; returns how many at the end were NOT copied (0: all).
extern "C" uint64_t vmm_safe_copy(void* to, void const* from, uint64_t n) noexcept;

// Installs the handlers that make vmm_safe_copy (and only it) survive. Once per process, before any guest memory is
// touched. Every other SIGSEGV or SIGBUS of the monitor itself stays fatal.
void install_safe_copy_handler();

}  // namespace vmm
