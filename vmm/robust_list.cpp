#include "vmm/robust_list.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "vmm/guest_thread.hpp"

namespace vmm {
namespace {

constexpr unsigned kMaxEntries = 2048;  // the kernel's ROBUST_LIST_LIMIT

void release(GuestThread& thread, GuestAddr word_addr) {
  if (word_addr.value % 4 != 0) return;
  uint32_t word = 0;
  AddressSpace& space = thread.memory();
  if (!space.read(word_addr, word) || (word & FUTEX_TID_MASK) != static_cast<uint32_t>(thread.tid())) return;
  auto* host = static_cast<uint32_t*>(space.buffer(word_addr, 4, Access::kWrite));
  uint32_t const died = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
  if (host == nullptr || !space.write(word_addr, died)) return;
  if (word & FUTEX_WAITERS) {
    syscall(SYS_futex, host, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
    syscall(SYS_futex, host, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  }
}

}  // namespace

void release_robust_list(GuestThread& thread) {
  if (!thread.robust_list) return;
  struct {
    uint64_t next, offset, pending;
  } head{};  // struct robust_list_head of <linux/futex.h>
  AddressSpace& space = thread.memory();
  if (!space.read(thread.robust_list, head)) return;
  uint64_t entry = head.next;
  for (unsigned i = 0; i < kMaxEntries && (entry & ~UINT64_C(1)) != thread.robust_list.value; ++i) {
    uint64_t const at = entry & ~UINT64_C(1);  // bit 0: a PI futex, which the guest cannot have
    uint64_t next = 0;
    if (!space.read(GuestAddr(at), next)) return;
    if (at != head.pending) release(thread, GuestAddr(at + head.offset));
    entry = next;
  }
  if (head.pending != 0) release(thread, GuestAddr((head.pending & ~UINT64_C(1)) + head.offset));
}

}  // namespace vmm
