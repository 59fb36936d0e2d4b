// Futexes run on the host's, on the alias of the guest's word: there no page is ever away, and the key of a word is the
// same for all threads. Relative time-outs become absolute ones at the first try, so that a restart does not wait anew.
#include "vmm/syscalls/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

#include "vmm/process.hpp"

namespace vmm {
namespace {

constexpr int64_t kBillion = 1'000'000'000;

bool valid(timespec const& ts) {
  return ts.tv_sec >= 0 && ts.tv_nsec >= 0 && ts.tv_nsec < kBillion;
}

int64_t wait(Thread& t, void* word, int op, uint32_t value, GuestAddr timeout, uint32_t bitset) {
  int const command = op & FUTEX_CMD_MASK;
  int host_op = FUTEX_WAIT_BITSET | (op & FUTEX_PRIVATE_FLAG);
  if (command == FUTEX_WAIT) bitset = FUTEX_BITSET_MATCH_ANY;
  timespec until{};
  if (timeout) {
    if (!t.memory().read(timeout, until)) return -EFAULT;
    if (!valid(until)) return -EINVAL;
    if (command == FUTEX_WAIT) {
      int64_t& deadline = t.restart_deadline();
      if (deadline == 0) {
        timespec now{};
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t const sum = (now.tv_sec + until.tv_sec) * kBillion + now.tv_nsec + until.tv_nsec;
        deadline = until.tv_sec > 1'000'000'000 ? INT64_MAX : sum;
      }
      until = {deadline / kBillion, deadline % kBillion};
    } else {
      host_op |= op & FUTEX_CLOCK_REALTIME;
    }
  }
  int64_t const r = t.block_in(SYS_futex, reinterpret_cast<uint64_t>(word), static_cast<uint64_t>(host_op), value,
                               timeout ? reinterpret_cast<uint64_t>(&until) : 0, 0, bitset);
  return r == kRestartSys && timeout && command == FUTEX_WAIT ? kRestartBlock : r;
}

}  // namespace

int64_t sys_futex(Thread& t, SyscallArgs const& args) {
  auto const [word_addr, op64, value, timeout, word2_addr, value3] = args.a;
  int const op = static_cast<int>(op64);
  if (word_addr % 4 != 0) return -EINVAL;
  void* word = t.memory().buffer(GuestAddr(word_addr), 4, Access::kRead);
  if (word == nullptr) return -EFAULT;
  switch (op & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
      return wait(t, word, op, static_cast<uint32_t>(value), GuestAddr(timeout), static_cast<uint32_t>(value3));
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET: {
      long const r = syscall(SYS_futex, word, op, value, nullptr, nullptr, value3);
      return r < 0 ? -errno : r;
    }
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP: {
      if (word2_addr % 4 != 0) return -EINVAL;
      Access const access = (op & FUTEX_CMD_MASK) == FUTEX_WAKE_OP ? Access::kWrite : Access::kRead;
      void* word2 = t.memory().buffer(GuestAddr(word2_addr), 4, access);
      if (word2 == nullptr) return -EFAULT;
      long const r = syscall(SYS_futex, word, op, value, timeout, word2, value3);  // `timeout` is a count here
      return r < 0 ? -errno : r;
    }
    default:
      return -ENOSYS;  // priority inheritance: the kernel would write thread ids of its own into the word
  }
}

}  // namespace vmm
