#include "vmm/system_pages.hpp"

#include <sys/mman.h>

#include <cstring>
#include <utility>

#include "vmm/guest_addr.hpp"

namespace vmm {
namespace {

constexpr uint64_t kPresent = 1, kWrite = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80;
constexpr uint64_t kTable = kPresent | kWrite | kUser | kAccessed;
constexpr uint64_t kGiB = 1ULL << 30, kLargePage = 2ULL << 20;
constexpr unsigned kPts = 4;  // 2,048 pages of system memory
constexpr unsigned kVectors = 32, kStubBytes = 16, kExceptionStubs = 0x100, kProbe = 0x80;
constexpr unsigned kCallPages = MB_DISTANCE / kPageSize;  // of the syscall stubs; as many of mailboxes
constexpr unsigned kTssBytes = 104, kIoMapBytes = 64;
constexpr unsigned kFrameWords = 5;  // of an exception without error code: rip cs rflags rsp ss

// out %al,$0xf0: leaves the VM from CPL 3 (by the TSS's I/O bitmap) and from CPL 0 alike.
constexpr uint8_t kExitInstruction[] = {0xe6, kExitPort};

constexpr uint64_t code_segment(unsigned dpl) {
  return 0x00af9a000000ffff | uint64_t{dpl} << 45;
}
constexpr uint64_t data_segment(unsigned dpl) {
  return 0x00cf92000000ffff | uint64_t{dpl} << 45;
}

kvm_segment segment(uint16_t selector, bool code, uint8_t dpl) {
  kvm_segment s{};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = code ? 0xb : 0x3;
  s.present = 1;
  s.dpl = dpl;
  s.s = 1;
  s.g = 1;
  s.l = code;
  s.db = !code;
  return s;
}

}  // namespace

uint64_t* SystemPages::page(unsigned n) const noexcept {
  return reinterpret_cast<uint64_t*>(base_ + uint64_t{n} * kPageSize);
}
uint64_t SystemPages::address(unsigned n) noexcept {
  return kSystemBase + uint64_t{n} * kPageSize;
}

Result<SystemPages> SystemPages::create(uint64_t low_end, uint64_t high_base, uint64_t high_size) {
  SystemPages s;
  auto const high_pds = static_cast<unsigned>(high_size / kGiB);
  unsigned const pd_low = 3, pd_system = 4, pts = 5;
  s.gdt_ = pts + kPts;
  s.idt_ = s.gdt_ + 1;
  s.stubs_ = s.idt_ + 1;
  unsigned const pd_high = s.stubs_ + 1;
  s.vcpus_ = pd_high + high_pds;
  s.calls_ = s.vcpus_ + kMaxVcpus;
  unsigned const mailboxes = s.calls_ + kCallPages;
  unsigned const pages = mailboxes + kCallPages;
  s.size_ = uint64_t{pages} * kPageSize;
  if (pages > kPts * 512) return fail(Errc::kBadOption, "guest memory too large for the monitor's page tables");
  void* memory = mmap(nullptr, s.size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return fail_host("mmap of the VM's system pages");
  s.base_ = static_cast<std::byte*>(memory);

  s.page(0)[0] = address(1) | kTable;
  s.page(0)[1] = address(2) | kTable;
  s.page(1)[0] = address(pd_low) | kTable;
  // The first 2 MiB stay unmapped: a null pointer is a page fault.
  for (uint64_t a = kLargePage; a < low_end; a += kLargePage) {
    s.page(pd_low)[a / kLargePage] = a | kTable | kDirty | kLarge;
  }
  // The high window's first GiB is nobody's (address_space.hpp): there is no memory there, and a page fault must say
  // so.
  for (unsigned i = 1; i < high_pds; ++i) {
    uint64_t const gib = high_base + i * kGiB;
    s.page(1)[gib / kGiB] = address(pd_high + i) | kTable;
    for (unsigned j = 0; j < 512; ++j) s.page(pd_high + i)[j] = (gib + j * kLargePage) | kTable | kDirty | kLarge;
  }
  s.page(2)[(kSystemBase - 512 * kGiB) / kGiB] = address(pd_system) | kTable;
  for (unsigned i = 0; i < kPts; ++i) s.page(pd_system)[i] = address(pts + i) | kTable;
  for (unsigned i = 0; i < pages; ++i) {
    uint64_t rights = kPresent | kWrite | kDirty;
    if (i == s.stubs_ || (i >= s.calls_ && i < mailboxes)) rights = kPresent | kUser;
    if (i >= mailboxes) rights |= kUser;
    s.page(pts + i / 512)[i % 512] = address(i) | rights | kAccessed;
  }

  uint64_t* gdt = s.page(s.gdt_);
  gdt[kKernelCode / 8] = code_segment(0);
  gdt[kKernelData / 8] = data_segment(0);
  gdt[kUserData / 8] = data_segment(3);
  gdt[kUserCode / 8] = code_segment(3);

  auto* stubs = reinterpret_cast<uint8_t*>(s.page(s.stubs_));
  std::memset(stubs, 0xcc, kPageSize);
  constexpr uint8_t kSyscall[] = {0x0f, 0x05};
  std::memcpy(stubs + kProbe, kSyscall, sizeof kSyscall);
  for (unsigned v = 0; v < kVectors; ++v) {
    uint64_t const entry = address(s.stubs_) + kExceptionStubs + v * kStubBytes;
    std::memcpy(stubs + kExceptionStubs + v * kStubBytes, kExitInstruction, sizeof kExitInstruction);
    // Interrupt gate. #BP and #OF may be raised by ring 3 itself.
    uint64_t const dpl = v == 3 || v == 4 ? 3 : 0;
    uint64_t* gate = s.page(s.idt_) + v * 2;
    gate[0] =
        (entry & 0xffff) | uint64_t{kKernelCode} << 16 | (0x8eULL | dpl << 5) << 40 | ((entry >> 16) & 0xffff) << 48;
    gate[1] = entry >> 32;
  }
  for (unsigned i = 0; i < kMaxVcpus; ++i) {
    // Written when the vCPU is made would be cheaper, but the pages must be whole before any vCPU runs; they are made
    // on first touch only, 4 KiB each, so touch what the TSS needs: RSP0 and the I/O bitmap.
    auto* tss = reinterpret_cast<uint8_t*>(s.page(s.vcpus_ + i));
    uint64_t const rsp0 = address(s.vcpus_ + i) + kPageSize;
    std::memcpy(tss + 4, &rsp0, sizeof rsp0);
    uint16_t const map_base = kTssBytes;
    std::memcpy(tss + 102, &map_base, sizeof map_base);
    std::memset(tss + kTssBytes, 0xff, kIoMapBytes + 1);
    tss[kTssBytes + kExitPort / 8] &= static_cast<uint8_t>(~(1u << (kExitPort % 8)));
  }
  return s;
}

SystemPages::SystemPages(SystemPages&& o) noexcept
    : base_(std::exchange(o.base_, nullptr)),
      size_(o.size_),
      gdt_(o.gdt_),
      idt_(o.idt_),
      stubs_(o.stubs_),
      vcpus_(o.vcpus_),
      calls_(o.calls_) {}

SystemPages::~SystemPages() {
  if (base_ != nullptr) munmap(base_, size_);
}

void SystemPages::fill_sregs(kvm_sregs& sregs, unsigned index) const {
  sregs.cs = segment(kUserCode, true, 3);
  sregs.ss = sregs.ds = sregs.es = segment(kUserData, false, 3);
  sregs.fs = sregs.gs = segment(0, false, 3);
  sregs.tr = {};
  sregs.tr.base = address(vcpus_ + index);
  sregs.tr.limit = kTssBytes + kIoMapBytes;
  sregs.tr.selector = 0x30;
  sregs.tr.type = 11;
  sregs.tr.present = 1;
  sregs.gdt = {.base = address(gdt_), .limit = 0x3f, .padding = {}};
  sregs.idt = {.base = address(idt_), .limit = kVectors * 16 - 1, .padding = {}};
  sregs.cr0 = 0x80050033;  // PG AM WP NE ET MP PE
  sregs.cr3 = address(0);
  sregs.cr4 = 0x620 | 1u << 18 | 1u << 16;  // PAE OSFXSR OSXMMEXCPT, OSXSAVE, FSGSBASE
  sregs.efer = 0xd01;                       // NXE LMA LME SCE
}

uint64_t SystemPages::upper_table() const noexcept {
  return page(0)[1];
}

uint64_t SystemPages::syscall_stub(unsigned index) const noexcept {
  return address(calls_) + uint64_t{index} * MB_STRIDE;
}

std::byte* SystemPages::syscall_stub_host(unsigned index) const noexcept {
  return base_ + (syscall_stub(index) - kSystemBase);
}

Mailbox& SystemPages::mailbox(unsigned index) const noexcept {
  return *reinterpret_cast<Mailbox*>(syscall_stub_host(index) + MB_DISTANCE);
}

uint64_t SystemPages::probe_entry() const noexcept {
  return address(stubs_) + kProbe;
}

int SystemPages::exception_stub(uint64_t rip) const noexcept {
  uint64_t const offset = rip - address(stubs_) - kExceptionStubs;
  if (offset >= kVectors * kStubBytes || offset % kStubBytes > sizeof kExitInstruction) return -1;
  return static_cast<int>(offset / kStubBytes);
}

bool SystemPages::on_ring0_stack(unsigned index, uint64_t rsp) const noexcept {
  uint64_t const page = address(vcpus_ + index);
  return rsp >= page + kTssBytes + kIoMapBytes + 8 && rsp <= page + kPageSize - kFrameWords * 8 && rsp % 8 == 0;
}

uint64_t const* SystemPages::stack_word(uint64_t rsp) const noexcept {
  return reinterpret_cast<uint64_t const*>(base_ + (rsp - kSystemBase));
}

}  // namespace vmm
