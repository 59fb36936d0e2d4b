// futex(2) over guest words: see futex.cpp.
#pragma once

#include "vmm/syscall.hpp"

namespace vmm {
int64_t sys_futex(Thread& thread, SyscallArgs const& args);
}  // namespace vmm
