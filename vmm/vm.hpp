// The virtual machine: /dev/kvm, the memslots and what all vCPUs share. Thread-safe after create().
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "vmm/address_space.hpp"
#include "vmm/error.hpp"
#include "vmm/kvm_abi.hpp"
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
  // KVM's log of the pages that the guest writes: on or off. Turning it on forgets what was logged.
  Result<void> track_writes(bool on);
  // Ors the pages of the guest's memory file that the guest has written since the last call into `bitmap` (a bit per
  // page), and begins anew. With no vCPU running nothing is missed or told twice.
  Result<void> fetch_dirty(std::span<uint64_t> bitmap);
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
  struct Logged {  // a slot of the guest's memory
    kvm_userspace_memory_region region;
    uint64_t first_page;  // in the memory file
  };
  std::vector<Logged> logged_;
  std::vector<uint64_t> log_;  // of one slot, as KVM gives it
  std::atomic<unsigned> slots_{0};
  int run_size_ = 0;
  unsigned max_vcpus_ = 0;
  std::vector<unsigned char> cpuid_;
  uint64_t xcr0_ = 0;
};

}  // namespace vmm
