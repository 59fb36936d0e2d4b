// One injection, carried out on a stopped guest thread: its registers are changed so that the fault happens in guest
// code, or bits of its registers or of the guest's memory are.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "runtime/inject/plan.hpp"
#include "runtime/recovery.hpp"
#include "vmm/address_space.hpp"
#include "vmm/thread.hpp"

namespace vmsrs::runtime::inject {

// What was changed, with what was drawn for it.
struct Struck {
  std::optional<unsigned> reg, bit;
  std::optional<uint64_t> address;  // read, written or jumped to; where a bit was turned
  std::optional<uint64_t> value, old_value;
};

class Striker {
 public:
  // Maps a page of code into the guest: the instructions that the kinds of group "crash" and "hang" consist of.
  // `recovery`: null without; it outlives this.
  static vmm::Result<std::unique_ptr<Striker>> create(vmm::AddressSpace& memory, Recovery* recovery);

  // On the thread itself, between two of its instructions. Nothing: not here (libsrs is in the middle of a store; no
  // monitored memory is in use yet), try again one instruction later.
  std::optional<Struck> strike(Injection const& injection, vmm::Thread& thread);

 private:
  Striker(vmm::AddressSpace& memory, Recovery* recovery, uint64_t code)
      : memory_(memory), recovery_(recovery), code_(code) {}
  void call(vmm::Thread& thread, uint64_t to) const;
  [[nodiscard]] uint64_t unmapped(uint64_t& state) const;
  // A word that is not 0, in these ranges.
  [[nodiscard]] std::optional<uint64_t> used_word(std::vector<vmm::GuestRange> const& ranges, uint64_t& state) const;
  [[nodiscard]] std::vector<vmm::GuestRange> writable() const;
  std::optional<Struck> flip_bit(uint64_t word, Injection const& injection, uint64_t& state) const;
  std::optional<Struck> stray(Injection const& injection, vmm::Thread& thread, uint64_t& state, bool logged);

  vmm::AddressSpace& memory_;
  Recovery* const recovery_;
  uint64_t const code_;
};

}  // namespace vmsrs::runtime::inject
