// The guest's memory: one reserved region in which guest virtual address == guest physical address
// == host virtual address, so that a system call's checked pointer needs no translation.
//
//   guest address                  what                                                    backed by
//   0x20_0000 .. 0x4000_0000       low window: non-PIE programs and their brk; mmap,       memfd offset = address
//                                  when the high window is full (or MAP_32BIT asks)
//   0x10_4000_0000 .. end          high window: PIE, libraries, stacks, mmap               offset = address - high base
//   high base + size .. + size     owner tags of the store, one word per word              the offset continues
//
// The high base is aligned to the (power of two) window size W and starts W's first GiB unused, so
// that the tag of any guest word is at tag_base + (address & (W - 1)): the low window's tags live
// where the unused GiB's would.
//
// Every page exists twice in the monitor: in the guest's place with the guest's protection (KVM
// maps that one), and in the *alias*, always readable and writable, at an address of the monitor's
// choice. The guest can never name the alias. Memory given back by munmap is remapped PROT_NONE,
// never unmapped: no mapping of the monitor can land in the region.
//
// Thread-safe. VMA changes take the lock exclusively, look-ups shared.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>
#include <vector>

#include "vmm/dirty_map.hpp"
#include "vmm/error.hpp"
#include "vmm/free_ranges.hpp"
#include "vmm/guest_addr.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmm {

inline constexpr uint64_t kLowBase = 0x20'0000;
inline constexpr uint64_t kLowEnd = 0x4000'0000;
inline constexpr uint64_t kHighBase = 0x10'0000'0000;
inline constexpr uint64_t kGap = kLowEnd;  // the high window's first GiB is unused: its tags are the low window's

enum class Backing { kMemfd, kSharedFile };
enum class Access { kRead, kWrite };

struct FileId {
  uint64_t device = 0, inode = 0;
  bool operator==(FileId const&) const = default;
};

struct Vma {
  GuestAddr start, end;
  int prot = 0;  // PROT_*
  Backing backing = Backing::kMemfd;
  std::string name;  // path or [heap], [stack]…
  uint64_t file_offset = 0;
  bool advised = false;    // of the host mapping: MADV_HUGEPAGE or its opposite
  FileId holds;            // the file whose bytes, from file_offset on, these still are; none: {}
  bool may_write = false;  // kSharedFile: the file was open for writing, so the guest may write it, now or later
};

class AddressSpace {
 public:
  struct Config {
    uint64_t window = 8ULL << 30;  // power of two, 2 GiB .. 8 GiB: high window + as much again for tags
    int file = -1;                 // of a restored guest: its memory, 2 * window bytes; taken over. -1: a new one
  };
  static Result<std::unique_ptr<AddressSpace>> create(Config const& config);
  ~AddressSpace();
  AddressSpace(AddressSpace const&) = delete;
  AddressSpace& operator=(AddressSpace const&) = delete;

  // ---- checks ----
  // Whether [addr, addr + size) lies wholly in one guest window (no wrap-around, not in the tags or
  // beyond). Says nothing about what is mapped there. size 0 is fine anywhere in a window.
  [[nodiscard]] bool contains(GuestAddr addr, uint64_t size) const noexcept;
  // A host pointer for a system call's buffer of `size` bytes: the alias where one memfd-backed VMA
  // run with the needed protection covers it all (immune to pages being taken away), else the
  // guest's own address if it is inside the windows (the kernel then answers EFAULT or a short
  // count as Linux would), else nullptr: the caller returns -EFAULT. Pages away in the range are
  // brought back first.
  [[nodiscard]] void* buffer(GuestAddr addr, uint64_t size, Access access);

  // Gives a writable range its pages now, so that the guest need not touch each of them first. A hint.
  void populate(GuestRange range);

  // ---- copies that never fault the monitor; they honour the guest's protection; bytes away are
  // brought back first ----
  [[nodiscard]] bool read(GuestAddr from, void* to, uint64_t size);
  [[nodiscard]] bool write(GuestAddr to, void const* from, uint64_t size);
  template <class T>
  [[nodiscard]] bool read(GuestAddr from, T& value) {
    return read(from, &value, sizeof value);
  }
  template <class T>
  [[nodiscard]] bool write(GuestAddr to, T const& value) {
    return write(to, &value, sizeof value);
  }
  // A NUL-terminated string of at most max bytes; errno-style: 0, EFAULT or ENAMETOOLONG.
  [[nodiscard]] int read_string(GuestAddr from, std::string& to, uint64_t max = 4096);

  // ---- the guest's memory calls; results as the kernel's (address or -errno) ----
  // text: of a private, read-only mapping of a whole file, the bytes from its start that stay so (a program's segments
  // before its writable ones); it may be placed so that they get huge pages. 0: not known.
  int64_t mmap(GuestAddr hint, uint64_t size, int prot, int flags, int host_fd, uint64_t offset, std::string name,
               uint64_t text = 0);
  int64_t munmap(GuestAddr addr, uint64_t size);
  int64_t mprotect(GuestAddr addr, uint64_t size, int prot);
  int64_t mremap(GuestAddr old, uint64_t old_size, uint64_t new_size, int flags, GuestAddr fixed);
  int64_t madvise(GuestAddr addr, uint64_t size, int advice);
  int64_t brk(GuestAddr addr);
  void set_brk_start(GuestAddr addr);

  [[nodiscard]] std::vector<Vma> vmas() const;  // a copy, in address order
  [[nodiscard]] uint64_t mapped_bytes() const;

  // ---- for the layer above ----
  // Address of the alias of a memfd-backed guest address, nullptr outside. Always readable and
  // writable; it ignores the guest's protection and pages away. Valid for the life of the
  // AddressSpace.
  [[nodiscard]] std::byte* alias(GuestAddr addr) const noexcept;
  [[nodiscard]] int memfd() const noexcept { return memfd_.get(); }
  struct Piece {
    GuestAddr guest_base;
    uint64_t size, memfd_offset;
  };
  [[nodiscard]] std::vector<Piece> pieces() const;  // how the memfd maps to guest addresses (windows and tags)
  [[nodiscard]] uint64_t tag_base() const noexcept { return kHighBase + window_; }
  [[nodiscard]] uint64_t address_mask() const noexcept { return window_ - 1; }
  // Memory for structures shared with libsrs (slots, rings): guest-readable and -writable, never
  // given to the guest's own munmap or mprotect (EINVAL / EPERM there).
  // near: not 0: less than 2 GiB from there.
  [[nodiscard]] Result<GuestAddr> map_shared_area(uint64_t size, std::string name, GuestAddr near = {});
  // Changes the guest's protection of a shared area (the vDSO: read and execute only, once it is filled).
  void set_area_protection(GuestAddr start, int prot);
  // The VMA around an address; false: nothing is mapped there.
  [[nodiscard]] bool find_vma(GuestAddr addr, Vma& out) const;

  // ---- checkpoints ----
  // Pages that the host's side writes. What writes through alias() marks by itself.
  [[nodiscard]] DirtyMap& dirty() noexcept { return dirty_; }
  void mark_written(GuestAddr addr, uint64_t size) noexcept;
  // Files mapped shared that the guest may write through the mapping. Their bytes are memory as all else is, but lie in
  // the files; what is written there in another way is marked with mark_file_written(). False: there was never one.
  [[nodiscard]] bool has_file_maps() const noexcept { return has_file_maps_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::vector<Vma> file_maps() const;
  void mark_file_written(FileId const& file, uint64_t offset, uint64_t size) noexcept;
  // Copies out what the mapping shows; false: nothing is there (beyond the file's end). Protection does not count.
  [[nodiscard]] bool read_file_map(GuestAddr from, void* to, uint64_t size) const;
  struct Layout {
    std::vector<Vma> vmas;
    std::vector<GuestRange> locked;
    uint64_t brk_start = 0, brk = 0;
  };
  [[nodiscard]] Layout layout() const;
  // Makes the mappings of a guest whose memory file this is. Areas that the monitor has made already must be among
  // them, at the same place; `open_file` opens a file that is mapped shared: a host fd, or -errno. What the memory file
  // holds at the place of a mapping that the guest may write goes into that file, as far as it reaches.
  Result<void> restore_layout(Layout const& layout, std::function<int(Vma const&)> const& open_file);

  // Pages away: no guest access succeeds there (it becomes a fault at the vCPU) until they are
  // back. Pages must be memfd-backed. Coalesces neighbours into one mprotect. on_missing is called,
  // with no lock held, when the monitor itself needs a page that is away; it must bring it back.
  //
  // Each run of pages away splits a host mapping, and the host allows a number of them (vm.max_map_count). False: there
  // would be too many; all pages are as they were before the call.
  [[nodiscard]] bool take_away(std::span<GuestAddr const> pages);
  // Ends the monitor with a message if the host refuses: the guest's memory would be wrong.
  void bring_back(std::span<GuestAddr const> pages);
  [[nodiscard]] bool is_away(GuestAddr page) const;
  [[nodiscard]] uint64_t away_count() const noexcept { return away_count_.load(std::memory_order_acquire); }
  void set_missing_handler(std::function<void(GuestRange)> handler) { on_missing_ = std::move(handler); }

 private:
  AddressSpace() = default;
  [[nodiscard]] std::byte* alias_of(uint64_t addr) const noexcept;
  [[nodiscard]] bool covered(uint64_t start, uint64_t end, int need, Backing const* backing) const;
  [[nodiscard]] bool in_windows(uint64_t start, uint64_t end) const noexcept;
  [[nodiscard]] bool locked_area(uint64_t start, uint64_t end) const noexcept;
  [[nodiscard]] uint64_t find_free(uint64_t size, int flags) const;
  [[nodiscard]] uint64_t find_free_near(uint64_t size, uint64_t near) const;
  [[nodiscard]] FreeRanges& free_around(uint64_t addr);
  [[nodiscard]] bool is_free(uint64_t start, uint64_t end) const;
  void split_at(uint64_t at);
  void merge(uint64_t start, uint64_t end);
  [[nodiscard]] bool drop(uint64_t start, uint64_t end);  // false: host refused; the VMAs left in the range still hold
  [[nodiscard]] bool host_protect(uint64_t start, uint64_t end, int prot);
  int64_t change_protection(uint64_t start, uint64_t end, int prot);
  void protect_as_mapped(uint64_t start, uint64_t end);
  void discard(uint64_t start, uint64_t size);
  void advise_host(uint64_t start, uint64_t end, int advice);
  void mark_away(uint64_t start, uint64_t end);
  int64_t place(uint64_t start, uint64_t size, int prot, int flags, int host_fd, uint64_t offset, std::string name);
  static uint64_t text_padding(uint64_t text);
  [[nodiscard]] uint64_t padding_before(uint64_t start) const;
  static bool wants_huge_text(uint64_t text);
  [[nodiscard]] uint64_t place_for_text(uint64_t hint, uint64_t size, uint64_t text) const;
  int64_t map_text(uint64_t hint, uint64_t size, int prot, int flags, int host_fd, std::string name, uint64_t text);
  [[nodiscard]] bool holds_file(uint64_t start, uint64_t size, FileId const& file, uint64_t offset) const;
  [[nodiscard]] static FileId file_id(int host_fd);
  Result<void> write_back(Vma const& vma, int host_fd) const;
  int64_t remap_locked(uint64_t old, uint64_t old_size, uint64_t new_size, int flags, uint64_t fixed);
  int64_t remap_shared_file(Vma const& vma, uint64_t old, uint64_t old_size, uint64_t new_size, int flags,
                            uint64_t fixed);
  void bring_back_missing(GuestAddr addr, uint64_t size);

  mutable std::shared_mutex mutex_;
  std::map<uint64_t, Vma> vmas_;       // by start; neighbours that are alike are merged
  FreeRanges free_low_, free_high_;    // what vmas_ leaves of the windows
  std::map<uint64_t, uint64_t> away_;  // runs of pages away: start → end
  std::atomic<uint64_t> away_count_{0};
  std::function<void(GuestRange)> on_missing_;
  std::vector<GuestRange> locked_;  // shared areas: never the guest's to change
  uint64_t window_ = 0;
  uint64_t brk_start_ = 0, brk_ = 0;
  DirtyMap dirty_;
  std::atomic<bool> has_file_maps_{false};
  ScopedFd memfd_;
  std::byte* alias_ = nullptr;
};

}  // namespace vmm
