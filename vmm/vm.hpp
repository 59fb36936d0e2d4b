// The virtual machine: /dev/kvm, the memslots and what all vCPUs share. Thread-safe after create().
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "vmm/address_space.hpp"
#include "vmm/error.hpp"
#include "vmm/kvm_traits.hpp"
#include "vmm/scoped_fd.hpp"
#include "vmm/syscall_stub.hpp"
#include "vmm/system_pages.hpp"

namespace vmm {

class Vm {
 public:
  // Checks every capability that the monitor needs and names the one that is missing.
  // `postable`: the calls that the stubs may post (vmm/pollers.hpp).
  static Result<std::unique_ptr<Vm>> create(AddressSpace const& memory, PostableCalls const& postable);
  // One more memory slot, for as long as the VM lives.
  Result<void> add_slot(uint64_t guest, uint64_t size, void const* host);
  [[nodiscard]] int fd() const noexcept { return vm_.get(); }
  [[nodiscard]] SystemPages const& system() const noexcept { return system_; }
  // Known after the first vCPU's probe; no second vCPU may be made before.
  [[nodiscard]] KvmTraits& traits() noexcept { return traits_; }
  [[nodiscard]] KvmTraits const& traits() const noexcept { return traits_; }
  [[nodiscard]] PostableCalls const& postable() const noexcept { return postable_; }
  [[nodiscard]] int run_size() const noexcept { return run_size_; }
  [[nodiscard]] unsigned max_vcpus() const noexcept { return max_vcpus_; }
  [[nodiscard]] std::vector<unsigned char> const& cpuid() const noexcept { return cpuid_; }  // a kvm_cpuid2
  // The processor state that both the host and this KVM's guests have.
  [[nodiscard]] uint64_t xcr0() const noexcept { return xcr0_; }

 private:
  Vm(SystemPages system, PostableCalls const& postable) : system_(std::move(system)), postable_(postable) {}
  ScopedFd kvm_, vm_;
  SystemPages system_;
  PostableCalls postable_;
  KvmTraits traits_;
  std::atomic<unsigned> slots_{0};
  int run_size_ = 0;
  unsigned max_vcpus_ = 0;
  std::vector<unsigned char> cpuid_;
  uint64_t xcr0_ = 0;
};

}  // namespace vmm
