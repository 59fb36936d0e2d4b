// The virtual machine: /dev/kvm, the memslots and what all vCPUs share. Thread-safe after create().
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "vmm/address_space.hpp"
#include "vmm/error.hpp"
#include "vmm/scoped_fd.hpp"
#include "vmm/system_pages.hpp"

namespace vmm {

class Vm {
 public:
  // Checks every capability that the monitor needs and names the one that is missing.
  static Result<std::unique_ptr<Vm>> create(AddressSpace const& memory);
  // One more memory slot, for as long as the VM lives.
  Result<void> add_slot(uint64_t guest, uint64_t size, void const* host);
  [[nodiscard]] int fd() const noexcept { return vm_.get(); }
  [[nodiscard]] SystemPages const& system() const noexcept { return system_; }
  [[nodiscard]] int run_size() const noexcept { return run_size_; }
  [[nodiscard]] unsigned max_vcpus() const noexcept { return max_vcpus_; }
  [[nodiscard]] std::vector<unsigned char> const& cpuid() const noexcept { return cpuid_; }  // a kvm_cpuid2

 private:
  Vm(SystemPages system) : system_(std::move(system)) {}
  ScopedFd kvm_, vm_;
  SystemPages system_;
  std::atomic<unsigned> slots_{0};
  int run_size_ = 0;
  unsigned max_vcpus_ = 0;
  std::vector<unsigned char> cpuid_;
};

}  // namespace vmm
