// The system-call table: one row of data per call. Rows live with their family in
// vmm/syscalls/<family>.cpp, which exports one span; vmm/syscall_table.cpp joins them. A number
// with no row answers -ENOSYS and is counted.
//
// Results are the kernel's: a value, or -errno. Three results never reach the guest (Linux's own
// internal codes): kRestartSys, kRestartNoHand and kRestartBlock say that a kick interrupted the
// call; dispatch() then lets pending work (a pause, a signal) happen and starts the call again or
// turns the code into -EINTR, as the kernel would.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace vmm {

class Thread;

inline constexpr int64_t kRestartSys = -512;     // restart unless a handler without SA_RESTART ran
inline constexpr int64_t kRestartNoHand = -514;  // restart unless any handler ran
// As kRestartNoHand, for calls with a relative time-out: the handler keeps its absolute deadline in
// Thread::restart_deadline() so that the second run does not wait anew.
inline constexpr int64_t kRestartBlock = -516;
// rt_sigreturn: the handler has set every register, rax too; dispatch() must write none.
inline constexpr int64_t kRegistersSet = INT64_MIN;

struct SyscallArgs {
  uint64_t nr = 0;
  std::array<uint64_t, 6> a{};
};

using SyscallHandler = int64_t (*)(Thread&, SyscallArgs const&);

// What an argument is; the generic handler translates and checks by it, the isolation matrix
// enumerates by it, and recovery learns the memory that a call will write.
enum class Arg : uint8_t {
  kNone,
  kInt,      // a plain number
  kFd,       // virtual fd → host fd, EBADF
  kFdOrCwd,  // the same, or AT_FDCWD
  kPath,     // in: NUL-terminated
  kIn,       // in: buffer, size from `size`
  kOut,      // out: buffer, size from `size`
  kInOut,
  kIovecIn,   // guest iovec array whose count is in the next argument; the call reads the buffers
              // (writev)
  kIovecOut,  // the call writes the buffers (readv)
  kMsghdr,    // handled by its own handler only
  kFutex,     // 32-bit word
  kAddr,      // an address that is only a number to the call (mmap, munmap): checked by its handler
  kSigset,    // in: sigset_t of 8 bytes
};

struct ArgSpec {
  Arg kind = Arg::kNone;
  // Size in bytes of a buffer: > 0 a constant; < 0: -(index of the argument that holds it) - 1, see
  // from_arg().
  int32_t size = 0;
  bool nullable = false;
};
constexpr int32_t from_arg(int index) {
  return -index - 1;
}

enum class Support : uint8_t { kFull, kPartial, kDenied };

struct SyscallRow {
  uint16_t nr;
  char const* name;
  std::array<ArgSpec, 6> args;
  SyscallHandler handler;
  Support support = Support::kFull;
  char const* note = "";   // what is partial, or why it is denied
  bool may_block = false;  // generic handler: run it as an interruptible call
};

// Translates every argument by its spec, then makes the host call with the same number.
int64_t pass_through(Thread& thread, SyscallArgs const& args);
// Always -EPERM; for calls that must never reach the host and have no meaning for the guest.
int64_t deny(Thread& thread, SyscallArgs const& args);

class SyscallTable {
 public:
  static SyscallTable const& instance();
  [[nodiscard]] SyscallRow const* find(uint64_t nr) const noexcept;
  [[nodiscard]] std::span<SyscallRow const* const> rows() const noexcept;  // in order of number

 private:
  SyscallTable();
  static constexpr uint64_t kMax = 512;
  std::array<SyscallRow const*, kMax> by_number_{};
  std::array<SyscallRow const*, kMax> dense_{};
  uint64_t count_ = 0;
};

// Each family's rows.
std::span<SyscallRow const> memory_rows();   // mmap brk mprotect munmap mremap madvise mincore msync mlock…
std::span<SyscallRow const> thread_rows();   // clone exit exit_group futex set_tid_address arch_prctl sched_* gettid…
std::span<SyscallRow const> signal_rows();   // rt_sig* kill tgkill sigaltstack alarm setitimer timer_* pause…
std::span<SyscallRow const> time_rows();     // clock_* nanosleep gettimeofday time times timerfd_*
std::span<SyscallRow const> file_rows();     // open read write stat … with directories, links, locks
std::span<SyscallRow const> fd_rows();       // dup close fcntl ioctl pipe eventfd memfd signalfd…
std::span<SyscallRow const> socket_rows();   // socket … sendmsg recvmsg
std::span<SyscallRow const> poll_rows();     // poll ppoll select pselect6 epoll_*
std::span<SyscallRow const> process_rows();  // ids, rlimits, uname, sysinfo, prctl, getrandom, getrusage…

}  // namespace vmm
