// A copy-on-write view of the guest's memory: one thread goes on in it, and nothing it stores is ever seen by others.
//
// The windows and their tags a second time: at guest-physical addresses of their own (kViewBase + offset in the memfd),
// over a host range that maps the memfd MAP_PRIVATE while the view is open, and with a second set of page tables whose
// virtual addresses are the guest's usual ones. Tables and slots are made once, at the first use, and never edited
// (docs/platform.md); permissions are those of the host mappings, taken from the guest's when the view is opened.
//
// It is no snapshot: a page that the thread in the view has not written follows the main memory. Mappings made or
// changed after open() are not followed. Files mapped shared are readable there, not writable. Pages that are away
// (AddressSpace::take_away) are not away here: what they show is as they were left.
//
// One thread at a time is in the view: its user. try_open() and close() may be called by any thread, the rest by the
// user only.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "vmm/address_space.hpp"
#include "vmm/vm.hpp"

namespace vmm {

inline constexpr uint64_t kViewBase = 0x60'0000'0000;    // guest-physical: the memfd's bytes
inline constexpr uint64_t kViewTables = 0xB0'0000'0000;  // guest-physical: page tables
static_assert(kHighBase < kViewBase && kViewBase + 128 * (1ULL << 30) <= kViewTables && kViewTables < kSystemBase);

class View {
 public:
  // `vm` and `memory` must outlive it; no vCPU may run in it when it goes.
  static Result<std::unique_ptr<View>> create(Vm& vm, AddressSpace& memory);
  ~View();
  View(View const&) = delete;
  View& operator=(View const&) = delete;

  // The caller becomes its user. Errc::kBusy: it has one already.
  [[nodiscard]] Result<void> try_open();
  // What was stored in it is gone.
  void close();
  // Whether it has a user. Any thread may ask.
  [[nodiscard]] bool open() const noexcept { return taken_.load(); }
  [[nodiscard]] uint64_t root() const noexcept { return kViewTables; }  // for CR3

  // As AddressSpace's, in the view: they honour its protection and never fault the monitor.
  [[nodiscard]] bool read(GuestAddr from, void* to, uint64_t size) const;
  [[nodiscard]] bool write(GuestAddr to, void const* from, uint64_t size);
  template <class T>
  [[nodiscard]] bool read(GuestAddr from, T& value) const {
    return read(from, &value, sizeof value);
  }
  template <class T>
  [[nodiscard]] bool write(GuestAddr to, T const& value) {
    return write(to, &value, sizeof value);
  }
  // The mapping around an address, with its protection in the view; false: none.
  [[nodiscard]] bool find_vma(GuestAddr addr, Vma& out) const;

 private:
  View(AddressSpace& memory, uint64_t size) : memory_(memory), size_(size) {}
  void fill_tables(SystemPages const& system);
  [[nodiscard]] Result<void> map_piece(Vma& vma);
  [[nodiscard]] std::byte* host_of(uint64_t addr) const noexcept;

  AddressSpace& memory_;
  uint64_t size_;               // of the memfd
  std::byte* host_ = nullptr;   // size_ bytes of address space, without access while it is closed
  uint64_t* tables_ = nullptr;  // pages as in view.cpp
  uint64_t tables_size_ = 0;
  std::atomic<bool> taken_{false};
  std::vector<Vma> vmas_;  // as mapped in the view, in address order
};

}  // namespace vmm
