// Robust futexes (pthread_mutexattr_setrobust): at a thread's end its locked robust mutexes are marked
// FUTEX_OWNER_DIED. The kernel would write through the list unchecked by us, so the monitor keeps the list head and
// walks it itself.
#pragma once

namespace vmm {
class GuestThread;
void release_robust_list(GuestThread& thread);
}  // namespace vmm
