// A guest process and threads without a VM: the two pure virtuals of Thread on a plain array, real guest memory.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "vmm/address_space.hpp"
#include "vmm/process.hpp"
#include "vmm/safe_copy.hpp"
#include "vmm/thread.hpp"

namespace vmm_test {

class FakeThread final : public vmm::Thread {
 public:
  FakeThread(vmm::Process& process, int tid) : Thread(process, tid) {
    constexpr uint16_t kControl = 0x37f;
    constexpr uint32_t kMxcsr = 0x1f80;
    std::memcpy(xsave.data(), &kControl, sizeof kControl);
    std::memcpy(xsave.data() + 24, &kMxcsr, sizeof kMxcsr);
  }
  bool get_xsave(std::span<std::byte> to) override {
    std::memcpy(to.data(), xsave.data(), std::min(to.size(), xsave.size()));
    return true;
  }
  bool set_xsave(std::span<std::byte const> from) override {
    if (refuse_xsave) return false;
    std::memcpy(xsave.data(), from.data(), std::min(from.size(), xsave.size()));
    return true;
  }
  // Whether it was kicked since the last call.
  bool take_kick() { return kicked_.exchange(false); }
  void runs_here() { host_tid_.store(gettid()); }

  alignas(64) std::array<std::byte, 4096> xsave{};
  bool refuse_xsave = false;
};

// AddressSanitizer has its shadow memory where the guest's addresses are: no guest memory then.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool kGuestMemory = false;
#else
inline constexpr bool kGuestMemory = true;
#endif

class FakeProcess final : public vmm::Process {
 public:
  FakeProcess() {
    hooks_ = &no_hooks_;
    if (!kGuestMemory) return;
    vmm::install_safe_copy_handler();
    auto memory = vmm::AddressSpace::create({.window = 2ULL << 30});
    EXPECT_TRUE(memory.has_value()) << memory.error().message;
    memory_ = std::move(*memory);
  }
  ~FakeProcess() override { signals_.shut_down(); }
  int64_t start_thread(vmm::Registers const&, std::span<std::byte const>, uint64_t, vmm::GuestAddr, vmm::GuestAddr,
                       vmm::GuestAddr) override {
    return -EAGAIN;
  }
  FakeThread& add_thread() {
    int const tid = vmm::kVirtualPid + static_cast<int>(owned_.size());
    owned_.push_back(std::make_unique<FakeThread>(*this, tid));
    std::lock_guard lock(threads_mutex_);
    threads_[tid] = owned_.back().get();
    return *owned_.back();
  }
  void end_thread(FakeThread& thread) {
    signals_.thread_exits(thread);
    std::lock_guard lock(threads_mutex_);
    threads_.erase(thread.tid());
  }
  // Guest memory, readable and writable; its host address is the same.
  vmm::GuestAddr map(uint64_t size, int prot = PROT_READ | PROT_WRITE) {
    int64_t const at = memory_->mmap(vmm::GuestAddr(), size, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "test");
    EXPECT_GT(at, 0);
    return vmm::GuestAddr(static_cast<uint64_t>(at));
  }

 private:
  vmm::Hooks no_hooks_;
  std::vector<std::unique_ptr<FakeThread>> owned_;
};

}  // namespace vmm_test
