// Where a thread of an unmodified server goes back to if it faults: the read that brought the request it is serving, on
// a connection that accept() gave. Registers and stack are kept as that read returns; they are put back, and the read
// returns ECONNRESET (docs/rescue.md).
//
// Used by whichever host thread acts for the guest thread; serving() by anybody.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "srs/rescue.h"
#include "vmm/fd_table.hpp"
#include "vmm/guest_addr.hpp"
#include "vmm/registers.hpp"
#include "vmm/thread.hpp"

namespace vmsrs::runtime {

class LandingPad {
 public:
  // Above the read's stack pointer; servers are seen to have 1 KiB there. Deeper ones get no pad.
  static constexpr uint64_t kMostStack = 128 << 10;
  // What a leaf function may keep below its stack pointer (System V psABI 3.2.2).
  static constexpr uint64_t kRedZone = 128;

  // stack_top: nothing above it is a frame.
  explicit LandingPad(uint64_t stack_top) : stack_top_(stack_top) {}

  // A system call of the thread has ended.
  void after_call(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result);
  // Why the thread cannot be put back now; null: it can. Its registers are those of the fault.
  [[nodiscard]] char const* refusal(vmm::Thread& thread) const;
  // Stack, signal mask and floating-point state are put back.
  void put_back(vmm::Thread& thread) const;
  // After it: the thread goes on in `code` (srs_rescue_attach::pad), below its read.
  void go_back(vmm::Thread& thread, uint64_t code, uint64_t release) const;
  [[nodiscard]] vmm::Registers const& registers() const { return regs_; }  // the read returns ECONNRESET
  [[nodiscard]] uint64_t stack_bytes() const { return stack_.size(); }
  // The stack as it was at the read: from stack_low() up.
  [[nodiscard]] uint64_t stack_low() const { return regs_.rsp - kRedZone; }
  [[nodiscard]] std::vector<std::byte> const& stack() const { return stack_; }

  [[nodiscard]] bool serving() const { return serving_.load(std::memory_order_acquire); }
  void close(char const* why);

  // The thread's locks, where libsrs_rescue has named them; those held at the read.
  void set_holds(vmm::GuestAddr at) { holds_ = at; }
  [[nodiscard]] vmm::GuestAddr holds() const { return holds_; }
  [[nodiscard]] std::vector<srs_rescue_hold> const& held_at_read() const { return held_; }

  // A thread that waits for many files at once serves many connections from one stack.
  [[nodiscard]] bool is_event_loop() const { return event_loop_; }
  uint64_t rescues = 0;      // of this thread
  bool rescued_now = false;  // on its way back from a fault, in the server's error path or before
  [[nodiscard]] bool serves_again() const { return serves_again_; }  // another connection, after a rescue
  void note_rescue();

 private:
  void open(vmm::Thread& thread, int fd, vmm::FileRef const& file);
  void after_read(vmm::Thread& thread, int fd, int64_t result);

  uint64_t const stack_top_;
  std::atomic<bool> serving_{false};
  char const* closed_ = "it has read no request yet";
  int fd_ = -1;
  std::weak_ptr<vmm::OpenFile> file_, rescued_file_;
  vmm::Registers regs_;
  uint64_t blocked_ = 0;
  std::vector<std::byte> stack_;
  vmm::GuestAddr holds_;
  std::vector<srs_rescue_hold> held_;
  bool event_loop_ = false, serves_again_ = false;
};

}  // namespace vmsrs::runtime
