#include "vmm/view.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "vmm/safe_copy.hpp"

namespace vmm {
namespace {

// As in SystemPages (Intel SDM vol. 3, 4.5): present, writable, user, accessed, dirty, 2 MiB page.
constexpr uint64_t kTable = 0x27, kLargePageEntry = 0x27 | 0x40 | 0x80;
constexpr uint64_t kGiB = 1ULL << 30, kLargePage = 2ULL << 20;
constexpr unsigned kEntries = 512;

// Pages of the tables: PML4 | PDPT 0..512 GiB | PD of the low window | PDs of the high window and the tags.
constexpr unsigned kPml4 = 0, kPdpt = 1, kLowPd = 2, kHighPds = 3;

constexpr uint64_t table(unsigned page) {
  return (kViewTables + uint64_t{page} * kPageSize) | kTable;
}

}  // namespace

Result<std::unique_ptr<View>> View::create(Vm& vm, AddressSpace& memory) {
  uint64_t const size = 2 * (memory.tag_base() - kHighBase);
  std::unique_ptr<View> view(new View(memory, size));
  void* host = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (host == MAP_FAILED) return fail_host(fmt::format("mmap of a view ({} MiB)", size >> 20));
  view->host_ = static_cast<std::byte*>(host);
  view->tables_size_ = (kHighPds + size / kGiB) * kPageSize;
  void* tables =
      ::mmap(nullptr, view->tables_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (tables == MAP_FAILED) return fail_host("mmap of a view's page tables");
  view->tables_ = static_cast<uint64_t*>(tables);
  view->fill_tables(vm.system());
  if (auto r = vm.add_slot(kViewTables, view->tables_size_, tables); !r) return tl::unexpected(r.error());
  if (auto r = vm.add_slot(kViewBase, size, host); !r) return tl::unexpected(r.error());
  return view;
}

View::~View() {
  if (host_ != nullptr) ::munmap(host_, size_);
  if (tables_ != nullptr) ::munmap(tables_, tables_size_);
}

void View::fill_tables(SystemPages const& system) {
  auto const page = [this](unsigned n) { return tables_ + uint64_t{n} * kEntries; };
  page(kPml4)[0] = table(kPdpt);
  page(kPml4)[1] = system.upper_table();  // stubs, descriptor tables and ring-0 stacks are everybody's
  page(kPdpt)[0] = table(kLowPd);
  for (uint64_t a = kLargePage; a < kLowEnd; a += kLargePage) {
    page(kLowPd)[a / kLargePage] = (kViewBase + a) | kLargePageEntry;
  }
  for (uint64_t i = 1; i < size_ / kGiB; ++i) {  // the high window's first GiB is unused: those bytes are the low one's
    page(kPdpt)[kHighBase / kGiB + i] = table(static_cast<unsigned>(kHighPds + i));
    for (uint64_t j = 0; j < kEntries; ++j) {
      page(static_cast<unsigned>(kHighPds + i))[j] = (kViewBase + i * kGiB + j * kLargePage) | kLargePageEntry;
    }
  }
}

// The memfd's offsets: address_space.hpp.
std::byte* View::host_of(uint64_t addr) const noexcept {
  return host_ + (addr < kLowEnd ? addr : addr - kHighBase);
}

Result<void> View::try_open() {
  if (taken_.exchange(true)) return fail(Errc::kBusy, "another thread is in the view");
  for (Vma& vma : memory_.vmas()) {
    if (vma.prot == PROT_NONE) continue;
    auto mapped = map_piece(vma);
    vmas_.push_back(std::move(vma));  // also what is half mapped: close() undoes it
    if (mapped) continue;
    close();
    return mapped;
  }
  return {};
}

Result<void> View::map_piece(Vma& vma) {
  uint64_t const bytes = vma.end - vma.start;
  std::byte* const to = host_of(vma.start.value);
  if (vma.backing == Backing::kSharedFile) {
    // An old size of 0 makes a second mapping of the same file.
    void* const from = reinterpret_cast<void*>(vma.start.value);
    vma.prot &= ~PROT_WRITE;
    if (::mremap(from, 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) {
      vma.prot = PROT_NONE;  // its file went meanwhile: nothing is there
    } else if (::mprotect(to, bytes, PROT_READ) != 0) {
      return fail_host("mprotect of a file in a view");
    }
    return {};
  }
  int const prot = PROT_READ | ((vma.prot & PROT_WRITE) != 0 ? PROT_WRITE : 0);
  int const flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
  auto const offset = to - host_;
  uint64_t const tags = size_ / 2;
  if (::mmap(to, bytes, prot, flags, memory_.memfd(), offset) == MAP_FAILED ||
      ::mmap(to + tags, bytes, PROT_READ | PROT_WRITE, flags, memory_.memfd(), offset + static_cast<off_t>(tags)) ==
          MAP_FAILED) {
    return fail_host(fmt::format("mmap of {:#x} in a view ({} KiB)", vma.start.value, bytes >> 10));
  }
  return {};
}

void View::close() {
  for (size_t i = 0; i < vmas_.size();) {
    uint64_t const start = vmas_[i].start.value;
    uint64_t end = vmas_[i].end.value;
    for (++i; i < vmas_.size() && vmas_[i].start.value == end; ++i) end = vmas_[i].end.value;
    for (std::byte* at : {host_of(start), host_of(start) + size_ / 2}) {
      if (::mmap(at, end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) ==
          MAP_FAILED) {
        // What one user stored would be the next one's to see.
        fmt::print(stderr, "vmsrs: the monitor is broken and stops: a view cannot be closed: {}\n", strerror(errno));
        std::abort();
      }
    }
  }
  vmas_.clear();
  taken_.store(false);
}

bool View::read(GuestAddr from, void* to, uint64_t size) const {
  return memory_.contains(from, size) && vmm_safe_copy(to, host_of(from.value), size) == 0;
}

bool View::write(GuestAddr to, void const* from, uint64_t size) {
  return memory_.contains(to, size) && vmm_safe_copy(host_of(to.value), from, size) == 0;
}

bool View::find_vma(GuestAddr addr, Vma& out) const {
  auto const it = std::ranges::upper_bound(vmas_, addr.value, {}, [](Vma const& v) { return v.end.value; });
  if (it == vmas_.end() || it->start.value > addr.value || it->prot == PROT_NONE) return false;
  out = *it;
  return true;
}

}  // namespace vmm
