// What a look at the guest needs: its mappings and its bytes. Reading has no effect on the guest: pages that are away
// stay away, and a bad address is an answer, never a fault of the monitor.
//
// One view is used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vmm/address_space.hpp"

namespace vmsrs::runtime {

struct Mapping {
  uint64_t start = 0, end = 0;
  std::string file;  // path, or [vdso], [stack]…; empty: anonymous
  uint64_t file_offset = 0;
  bool readable = false, executable = false;
};

class GuestView {
 public:
  virtual ~GuestView() = default;
  // All of [addr, addr + size) or nothing.
  [[nodiscard]] virtual bool read(uint64_t addr, void* to, size_t size) const = 0;
  // In address order, none overlapping. A snapshot: the same for the life of the view.
  [[nodiscard]] virtual std::vector<Mapping> const& mappings() const = 0;
};

// The mapping around an address, or nullptr.
[[nodiscard]] Mapping const* find_mapping(GuestView const& view, uint64_t addr);

// The guest of a monitor. The mappings are taken when they are first asked for.
class AddressSpaceView final : public GuestView {
 public:
  explicit AddressSpaceView(vmm::AddressSpace& space) : space_(space) {}
  [[nodiscard]] bool read(uint64_t addr, void* to, size_t size) const override;
  [[nodiscard]] std::vector<Mapping> const& mappings() const override;

 private:
  vmm::AddressSpace& space_;
  mutable std::vector<Mapping> mappings_;
};

// Another view with the top of one stack as it was when this was made. A fault takes this copy before its thread lands
// and unwinds it later, while the thread already runs again.
class StackCopy final : public GuestView {
 public:
  static constexpr size_t kDefaultSize = 16384;
  // Copies up to `size` bytes from `sp` up, as far as `below` can read. `below` must outlive this.
  StackCopy(GuestView const& below, uint64_t sp, size_t size = kDefaultSize);
  [[nodiscard]] bool read(uint64_t addr, void* to, size_t size) const override;
  [[nodiscard]] std::vector<Mapping> const& mappings() const override { return below_.mappings(); }
  [[nodiscard]] size_t copied() const { return bytes_.size(); }

 private:
  GuestView const& below_;
  uint64_t start_;
  std::vector<std::byte> bytes_;
};

}  // namespace vmsrs::runtime
