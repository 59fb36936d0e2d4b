// One vCPU. Must be run by one host thread at a time, best always the same one (KVM notices a change of thread and
// waits for an RCU grace period). KVM cannot destroy a vCPU: keep it in a pool.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <variant>

#include "vmm/registers.hpp"
#include "vmm/syscall_stub.hpp"
#include "vmm/vm.hpp"

namespace vmm {

struct ExitSyscall {  // registers as at the syscall instruction, rip behind it
  StubPlace place = StubPlace::kEntered;
  uint64_t number = 0;  // kSpinning: of the post
  bool direct = false;  // by a patched site, with no syscall instruction
};
struct ExitException {  // ring 3 raised an exception; registers are those of the faulting instruction
  int vector;
  uint64_t error_code;
  uint64_t cr2;  // #PF only
};
struct ExitDenied {  // an access that the host mapping does not allow, by the instruction at regs.rip
  // Or by the one before it, which KVM carried out but for its store here: the address's lowest 12 bits.
  std::optional<uint64_t> not_stored;
};
struct ExitKicked {};  // a signal or immediate_exit
struct ExitBroken {    // nothing the guest should be able to cause: the VM cannot go on
  std::string what;
};
using VmExit = std::variant<ExitSyscall, ExitException, ExitDenied, ExitKicked, ExitBroken>;

class Vcpu {
 public:
  static Result<std::unique_ptr<Vcpu>> create(Vm const& vm, unsigned index);
  // Runs a syscall of its own to find out how this KVM enters the stub, and writes the stub for that. On the thread
  // that will run the vCPU, before it runs anything else; the first vCPU's answer holds for all.
  Result<void> probe(KvmTraits& traits);
  ~Vcpu();
  Vcpu(Vcpu const&) = delete;
  Vcpu& operator=(Vcpu const&) = delete;

  // Whether the stub posts this call (by number, hypercalls too) when its mailbox is enabled.
  [[nodiscard]] bool may_post(uint64_t nr) const noexcept;
  // Puts the registers in, runs, and takes them out again.
  VmExit run(Registers& regs);
  // The page tables it runs on from the next run() on: a guest-physical address, 0: the VM's own.
  void set_root(uint64_t root) noexcept;
  [[nodiscard]] uint8_t volatile* immediate_exit() noexcept;
  // The XSAVE area, standard format, at most 4096 bytes. KVM_GET_XSAVE, KVM_SET_XSAVE.
  bool get_xsave(std::span<std::byte> to);
  bool set_xsave(std::span<std::byte const> from);
  // The state a new thread begins with: everything initial.
  bool reset_xsave();
  [[nodiscard]] uint64_t stub_address() const noexcept { return vm_.system().syscall_stub(index_); }
  [[nodiscard]] unsigned index() const noexcept { return index_; }

 private:
  Vcpu(Vm const& vm, unsigned index) : vm_(vm), index_(index) {}
  Result<void> set_up();
  void place_stub();
  void put(Registers const& regs);
  void take(Registers& regs);
  VmExit classify(Registers& regs);
  bool drop_emulation();
  [[nodiscard]] bool in_stub(uint64_t rip) const noexcept;
  ExitSyscall take_call(Registers& regs) const noexcept;

  Vm const& vm_;
  unsigned index_;
  ScopedFd fd_;
  kvm_run* run_ = nullptr;
  bool sregs_known_ = false;
  uint64_t root_ = 0;
};

}  // namespace vmm
