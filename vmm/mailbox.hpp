// The page of memory through which a guest thread posts system calls to the pollers (vmm/pollers.hpp) without leaving
// the VM. Any guest thread can write any mailbox: nothing read here is believed further than the registers of a guest
// are. The check words find accidental damage; the arguments are checked as those of any call.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "vmm/mailbox_layout.h"
#include "vmm/registers.hpp"
#include "vmm/syscall.hpp"

namespace vmm {

struct alignas(64) Mailbox {
  std::atomic<uint64_t> words[7];          // number, then the arguments in the order of SyscallArgs
  std::atomic<uint64_t> check;             // posted_check()
  std::atomic<uint64_t> posted;            // number of posts so far
  std::atomic<uint64_t> site;              // the address behind the call
  alignas(64) std::atomic<uint64_t> done;  // the post answered last
  std::atomic<uint64_t> result;
  std::atomic<uint64_t> result_check;
  alignas(64) std::atomic<int32_t> spins;  // rounds left of the present wait; 0 makes the guest leave
  alignas(64) std::atomic<uint32_t> enabled;
  std::atomic<uint32_t> spin_limit;
  alignas(64) std::atomic<uint64_t> kept[7];  // rsp, then the registers that a call keeps: rbx, rbp, r12 to r15
};

static_assert(offsetof(Mailbox, words) == MB_NR && offsetof(Mailbox, check) == MB_CHECK);
static_assert(offsetof(Mailbox, posted) == MB_POSTED && offsetof(Mailbox, site) == MB_SITE &&
              offsetof(Mailbox, done) == MB_DONE);
static_assert(offsetof(Mailbox, result) == MB_RESULT && offsetof(Mailbox, result_check) == MB_RESULT_CHECK);
static_assert(offsetof(Mailbox, spins) == MB_SPINS && offsetof(Mailbox, enabled) == MB_ENABLED);
static_assert(offsetof(Mailbox, spin_limit) == MB_SPIN_LIMIT && sizeof(Mailbox) <= MB_STRIDE);
static_assert(offsetof(Mailbox, kept) == MB_RSP && MB_R15 == MB_RSP + 48);

// What the stub computes over a call; `before`: mailbox.posted before the call.
constexpr uint64_t posted_check(SyscallArgs const& call, uint64_t before) {
  uint64_t sum = call.nr;
  for (uint64_t const arg : call.a) sum = std::rotl(sum, 7) ^ arg;
  return std::rotl(sum, 7) ^ before;
}

inline SyscallArgs posted_call(Mailbox const& mailbox) {
  SyscallArgs call{mailbox.words[0].load(std::memory_order_relaxed), {}};
  for (size_t i = 0; i < call.a.size(); ++i) call.a[i] = mailbox.words[i + 1].load(std::memory_order_relaxed);
  return call;
}

// The registers of the thread whose call is posted, as the call will leave them; the others are 0.
inline Registers posted_registers(Mailbox const& mailbox) {
  auto const kept = [&](size_t i) { return mailbox.kept[i].load(std::memory_order_relaxed); };
  Registers regs;
  regs.rsp = kept(0), regs.rbx = kept(1), regs.rbp = kept(2);
  regs.r12 = kept(3), regs.r13 = kept(4), regs.r14 = kept(5), regs.r15 = kept(6);
  regs.rip = mailbox.site.load(std::memory_order_relaxed);
  return regs;
}

inline void publish_answer(Mailbox& mailbox, uint64_t number, int64_t result) {
  auto const value = static_cast<uint64_t>(result);
  mailbox.result.store(value, std::memory_order_relaxed);
  mailbox.result_check.store(value ^ number ^ MB_SEAL, std::memory_order_relaxed);
  mailbox.done.store(number, std::memory_order_release);
}

}  // namespace vmm
