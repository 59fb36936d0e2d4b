#include "runtime/rescue/landing_pad.hpp"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "vmm/address_space.hpp"
#include "vmm/process.hpp"

namespace vmsrs::runtime {
namespace {

// How far below its stack a frame that overflows it may reach.
constexpr uint64_t kOverflowReach = 1 << 20;

bool is_read(uint64_t nr) {
  return nr == SYS_read || nr == SYS_readv || nr == SYS_recvfrom || nr == SYS_recvmsg;
}

// Waits for several files, or for new connections: whoever is served next, it is somebody else.
bool looks_for_work(uint64_t nr) {
  return nr == SYS_epoll_wait || nr == SYS_epoll_pwait || nr == SYS_epoll_pwait2 || nr == SYS_select ||
         nr == SYS_pselect6;
}

}  // namespace

void LandingPad::close(char const* why) {
  if (!serving()) return;
  serving_.store(false, std::memory_order_release);
  closed_ = why;
}

void LandingPad::after_call(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result) {
  if (is_read(args.nr)) return after_read(thread, static_cast<int>(args.a[0]), result);
  if (looks_for_work(args.nr)) {
    event_loop_ = true;
    return close("it is between requests: it has waited for others since");
  }
  switch (args.nr) {
    case SYS_accept:
    case SYS_accept4:
      return close("it is between requests: it has accepted a connection since");
    case SYS_close:
    case SYS_shutdown:
      if (static_cast<int>(args.a[0]) == fd_) close("it has closed the connection of its request");
      return;
    case SYS_poll:
    case SYS_ppoll: {
      int fd = -1;
      if (args.a[1] == 1 && thread.memory().read(vmm::GuestAddr(args.a[0]), fd) && fd == fd_) return;
      if (args.a[1] > 1) event_loop_ = true;
      return close("it is between requests: it has waited for others since");
    }
    default:
      return;
  }
}

// A read that finds nothing yet stands between two parts of a request, or behind the last of several: going back there
// is as good.
void LandingPad::after_read(vmm::Thread& thread, int fd, int64_t result) {
  if (result == -EINTR || result <= vmm::kRestartSys) return;
  vmm::FileRef const file = thread.fds().get(fd);
  if (!file || !file->accepted.load(std::memory_order_relaxed)) return;
  bool const same = serving() && fd == fd_ && file_.lock() == file;
  if (result > 0 || (result == -EAGAIN && same)) return open(thread, fd, file);
  if (same || result != -EAGAIN) close("its connection is at its end");
}

void LandingPad::open(vmm::Thread& thread, int fd, vmm::FileRef const& file) {
  serving_.store(false, std::memory_order_release);
  vmm::Registers const now = thread.call_registers();
  // rcx and r11 hold what a system call leaves there; an exitless call's are not known, and are nobody's.
  regs_ = {};
  regs_.rsp = now.rsp, regs_.rip = now.rip, regs_.rbx = now.rbx, regs_.rbp = now.rbp;
  regs_.r12 = now.r12, regs_.r13 = now.r13, regs_.r14 = now.r14, regs_.r15 = now.r15;
  regs_.rax = static_cast<uint64_t>(-int64_t{ECONNRESET});
  regs_.rcx = now.rip;
  regs_.r11 = regs_.rflags;
  uint64_t const low = stack_low();
  if (regs_.rsp >= stack_top_ || low >= regs_.rsp) {
    closed_ = "it read its request on a stack of its own making";
    return;
  }
  uint64_t const size = stack_top_ - low;
  std::byte const* const from = size <= kMostStack ? thread.memory().alias(vmm::GuestAddr(low)) : nullptr;
  if (from == nullptr || !thread.memory().contains(vmm::GuestAddr(low), size)) {
    closed_ = "its stack was too deep when it read its request";
    return;
  }
  stack_.resize(size);
  std::memcpy(stack_.data(), from, size);
  held_.clear();
  if (holds_) {
    auto const* holds = reinterpret_cast<srs_rescue_holds const*>(thread.memory().alias(holds_));
    uint64_t const count = std::min<uint64_t>(holds->count, SRS_RESCUE_HOLDS);
    held_.assign(holds->held, holds->held + count);
  }
  if (fd != fd_ || file_.lock() != file) {
    fd_ = fd;
    file_ = file;
    serves_again_ = rescues != 0 && rescued_file_.lock() != file;
  }
  blocked_ = thread.signals().blocked.load(std::memory_order_relaxed);
  rescued_now = false;
  serving_.store(true, std::memory_order_release);
}

char const* LandingPad::refusal(vmm::Thread& thread) const {
  if (!serving()) return closed_;
  auto const file = file_.lock();
  if (!file || thread.fds().get(fd_) != file) return "the connection of its request was closed";
  // On another stack (a signal handler's, a coroutine's) what the thread was doing is not known.
  vmm::Vma stack;
  if (!thread.memory().find_vma(vmm::GuestAddr(regs_.rsp), stack)) return "its stack is gone";
  uint64_t const rsp = thread.regs().rsp;
  if (rsp > stack_top_ || rsp < stack.start.value - kOverflowReach) return "it is on another stack than its own";
  return nullptr;
}

void LandingPad::put_back(vmm::Thread& thread) const {
  thread.memory().mark_written(vmm::GuestAddr(stack_low()), stack_.size());
  std::memcpy(thread.memory().alias(vmm::GuestAddr(stack_low())), stack_.data(), stack_.size());
  thread.process().signals().set_blocked(thread, blocked_);
  // Offsets of the XSAVE area: Intel SDM vol. 1, 13.4.1. The x87 stack is emptied and exception flags are cleared;
  // rounding and masks stay as the server has set them.
  alignas(64) std::array<std::byte, 4096> area;
  if (!thread.get_xsave(area)) return;
  area[2] = area[3] = area[4] = std::byte{};
  area[24] &= std::byte{0xc0};
  (void)thread.set_xsave(area);
}

void LandingPad::go_back(vmm::Thread& thread, uint64_t code, uint64_t release) const {
  vmm::Registers& regs = thread.regs();
  uint64_t const fs = regs.fs_base, gs = regs.gs_base;
  regs = {};
  regs.fs_base = fs;
  regs.gs_base = gs;
  regs.rip = code;
  regs.rdi = release;
  regs.rsp = (stack_low() & ~uint64_t{15}) - 8;  // as behind a call
}

void LandingPad::note_rescue() {
  close("it is on its way out of a fault");
  rescued_file_ = file_;
  rescued_now = true;
  ++rescues;
}

}  // namespace vmsrs::runtime
