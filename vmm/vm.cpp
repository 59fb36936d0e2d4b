#include "vmm/vm.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>

namespace vmm {
namespace {

Result<ScopedFd> open_kvm() {
  int const fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd >= 0) return ScopedFd(fd);
  if (errno == ENOENT || errno == ENXIO || errno == ENODEV) {
    return fail(Errc::kNoKvm,
                "no /dev/kvm here: load the kvm module, turn virtualisation on in the firmware, or ask for "
                "nested virtualisation if this machine is a virtual one",
                errno);
  }
  if (errno == EACCES || errno == EPERM) {
    return fail(Errc::kKvmPermission,
                "no permission to open /dev/kvm: run as root, or join the group that owns it "
                "(often 'kvm')",
                errno);
  }
  return fail_host("open /dev/kvm");
}

struct Capability {
  int number;
  char const* name;
  int at_least;
};

Result<unsigned> check_capabilities(int kvm) {
  int const v = ioctl(kvm, KVM_GET_API_VERSION, 0);
  if (v < 0) return fail_host("/dev/kvm is not KVM: KVM_GET_API_VERSION");
  if (v != KVM_API_VERSION) {
    return fail(Errc::kKvmCapability,
                fmt::format("KVM_GET_API_VERSION is {}, the monitor needs {}", v, KVM_API_VERSION));
  }
  constexpr Capability kNeeded[] = {
      {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", 1},
      {KVM_CAP_SYNC_REGS, "KVM_CAP_SYNC_REGS", KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS},
      {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", 1},
      {KVM_CAP_XSAVE, "KVM_CAP_XSAVE", 1},
      {KVM_CAP_XCRS, "KVM_CAP_XCRS", 1},
      {KVM_CAP_NR_MEMSLOTS, "KVM_CAP_NR_MEMSLOTS", 6},
      {KVM_CAP_MAX_VCPUS, "KVM_CAP_MAX_VCPUS", 2},
  };
  int max_vcpus = 0;
  for (auto const& cap : kNeeded) {
    int const got = ioctl(kvm, KVM_CHECK_EXTENSION, cap.number);
    bool const ok = cap.number == KVM_CAP_SYNC_REGS ? (got & cap.at_least) == cap.at_least : got >= cap.at_least;
    if (!ok) {
      return fail(Errc::kKvmCapability,
                  fmt::format("this KVM lacks {} (it answers {}, the monitor needs {})", cap.name, got, cap.at_least));
    }
    if (cap.number == KVM_CAP_MAX_VCPUS) max_vcpus = got;
  }
  return std::min(static_cast<unsigned>(max_vcpus), kMaxVcpus);
}

Result<std::vector<unsigned char>> supported_cpuid(int kvm) {
  for (unsigned entries = 128; entries <= 4096; entries *= 2) {
    std::vector<unsigned char> buffer(sizeof(kvm_cpuid2) + entries * sizeof(kvm_cpuid_entry2));
    auto* cpuid = reinterpret_cast<kvm_cpuid2*>(buffer.data());
    cpuid->nent = entries;
    if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0) return buffer;
    if (errno != E2BIG) break;
  }
  return fail_host("KVM_GET_SUPPORTED_CPUID");
}

// XCR0 for a guest: what the host has enabled, less what this KVM does not offer to guests (CPUID leaf 0xD).
uint64_t guest_xcr0(std::vector<unsigned char> const& buffer) {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  auto const* cpuid = reinterpret_cast<kvm_cpuid2 const*>(buffer.data());
  for (uint32_t i = 0; i < cpuid->nent; ++i) {
    kvm_cpuid_entry2 const& e = cpuid->entries[i];
    if (e.function == 0xd && e.index == 0) low &= e.eax, high &= e.edx;
  }
  return uint64_t{high} << 32 | low;
}

}  // namespace

Result<void> Vm::add_slot(uint64_t guest, uint64_t size, void const* host) {
  kvm_userspace_memory_region region{};
  region.slot = slots_.fetch_add(1);
  region.guest_phys_addr = guest;
  region.memory_size = size;
  region.userspace_addr = reinterpret_cast<uint64_t>(host);
  if (ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) {
    return fail_host(
        fmt::format("KVM_SET_USER_MEMORY_REGION (slot {}, {:#x}, {} MiB)", region.slot, guest, size >> 20));
  }
  return {};
}

Result<void> Vm::track_writes(bool on) {
  for (Logged& slot : logged_) {
    slot.region.flags = on ? KVM_MEM_LOG_DIRTY_PAGES : 0;
    if (ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &slot.region) != 0) {
      return fail_host(fmt::format("KVM_SET_USER_MEMORY_REGION (logging of slot {})", slot.region.slot));
    }
  }
  return {};
}

Result<void> Vm::fetch_dirty(std::span<uint64_t> bitmap) {
  for (Logged const& slot : logged_) {
    uint64_t const words = slot.region.memory_size / kPageSize / 64, first = slot.first_page / 64;
    if (first + words > bitmap.size()) return fail_host("the map of written pages", EINVAL);
    log_.assign(words, 0);
    kvm_dirty_log request{};
    request.slot = slot.region.slot;
    request.dirty_bitmap = log_.data();
    if (ioctl(vm_.get(), KVM_GET_DIRTY_LOG, &request) != 0) {
      return fail_host(fmt::format("KVM_GET_DIRTY_LOG (slot {})", slot.region.slot));
    }
    for (uint64_t i = 0; i < words; ++i) bitmap[first + i] |= log_[i];
  }
  return {};
}

Result<std::unique_ptr<Vm>> Vm::create(AddressSpace const& memory, PostableCalls const& postable) {
  auto kvm = open_kvm();
  if (!kvm) return tl::unexpected(kvm.error());
  auto vcpus = check_capabilities(kvm->get());
  if (!vcpus) return tl::unexpected(vcpus.error());
  auto cpuid = supported_cpuid(kvm->get());
  if (!cpuid) return tl::unexpected(cpuid.error());
  uint64_t const window = memory.tag_base() - kHighBase;
  auto system = SystemPages::create(kLowEnd, kHighBase, 2 * window);
  if (!system) return tl::unexpected(system.error());

  std::unique_ptr<Vm> vm(new Vm(std::move(*system), postable));
  int const fd = ioctl(kvm->get(), KVM_CREATE_VM, 0);
  if (fd < 0) return fail_host("KVM_CREATE_VM");
  vm->vm_ = ScopedFd(fd);
  vm->kvm_ = std::move(*kvm);
  vm->max_vcpus_ = *vcpus;
  vm->cpuid_ = std::move(*cpuid);
  vm->xcr0_ = guest_xcr0(vm->cpuid_);
  vm->run_size_ = ioctl(vm->kvm_.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (vm->run_size_ < 0) return fail_host("KVM_GET_VCPU_MMAP_SIZE");
  for (auto const& piece : memory.pieces()) {
    auto r = vm->add_slot(piece.guest_base.value, piece.size, reinterpret_cast<void const*>(piece.guest_base.value));
    if (!r) return tl::unexpected(r.error());
    kvm_userspace_memory_region region{};
    region.slot = vm->slots_.load() - 1;
    region.guest_phys_addr = region.userspace_addr = piece.guest_base.value;
    region.memory_size = piece.size;
    vm->logged_.push_back({region, piece.memfd_offset / kPageSize});
  }
  auto r = vm->add_slot(kSystemBase, vm->system_.size(), vm->system_.host());
  if (!r) return tl::unexpected(r.error());
  return vm;
}

}  // namespace vmm
