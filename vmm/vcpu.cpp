#include "vmm/vcpu.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <chrono>
#include <cstring>

#include "vmm/hooks.hpp"

namespace vmm {
namespace {

constexpr uint32_t kMsrStar = 0xc0000081, kMsrLstar = 0xc0000082, kMsrFmask = 0xc0000084;
constexpr uint64_t kFlagsCleared = 0x257fd5;  // everything that a syscall may clear: the stub needs none of them
constexpr uint64_t kUserFlags = 0x250dd5;     // CF PF AF ZF SF TF DF OF RF AC ID: what ring 3 may change
constexpr uint64_t kPlainFlags = 0x202;
constexpr int kMostPieces = 16;  // of one instruction's memory accesses
constexpr uint8_t kBusyTss = 11, kAvailableTss = 9;

constexpr bool has_error_code(int vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

// XSTATE_BV, Intel SDM vol. 1, 13.4.2.
void keep_components(kvm_xsave& area, uint64_t components) {
  area.region[128] &= static_cast<uint32_t>(components);
  area.region[129] &= static_cast<uint32_t>(components >> 32);
}

}  // namespace

Result<std::unique_ptr<Vcpu>> Vcpu::create(Vm const& vm, unsigned index) {
  if (index >= vm.max_vcpus()) {
    return fail(Errc::kTooManyThreads, fmt::format("too many threads: this KVM has {} vCPUs", vm.max_vcpus()));
  }
  std::unique_ptr<Vcpu> vcpu(new Vcpu(vm, index));
  int const fd = ioctl(vm.fd(), KVM_CREATE_VCPU, index);
  if (fd < 0) return fail_host(fmt::format("KVM_CREATE_VCPU ({})", index));
  vcpu->fd_ = ScopedFd(fd);
  if (auto r = vcpu->set_up(); !r) return tl::unexpected(r.error());
  vcpu->place_stub();
  return vcpu;
}

void Vcpu::place_stub() {
  write_stub(vm_.system().syscall_stub_host(index_), vm_.traits().stub_at_ring0, vm_.postable());
}

Result<void> Vcpu::probe(KvmTraits& traits) {
  Registers regs;
  regs.rip = vm_.system().probe_entry();
  regs.rax = UINT64_MAX;  // no call: the stub leaves at once
  VmExit const exit = run(regs);
  if (auto const* broken = std::get_if<ExitBroken>(&exit)) return fail(Errc::kKvmCapability, broken->what);
  if (!std::holds_alternative<ExitSyscall>(exit)) {
    return fail(Errc::kKvmCapability, fmt::format("the probe of the syscall entry ended at rip {:#x}", regs.rip));
  }
  traits.stub_at_ring0 = (run_->s.regs.sregs.cs.selector & 3) == 0;
  place_stub();
  for (int i = 0; i < 4; ++i) {
    regs.rip = vm_.system().probe_entry();
    auto const begin = std::chrono::steady_clock::now();
    if (!std::holds_alternative<ExitSyscall>(run(regs))) break;
    int64_t const took = (std::chrono::steady_clock::now() - begin) / std::chrono::nanoseconds(1);
    if (traits.exit_ns == 0 || took < traits.exit_ns) traits.exit_ns = took;
  }
  for (uint8_t const type : {kBusyTss, kAvailableTss}) {
    traits.tss_type = type;
    sregs_known_ = false;
    regs.rip = stub_address() + STUB_DIRECT;
    VmExit const direct = run(regs);
    if (auto const* broken = std::get_if<ExitBroken>(&direct)) return fail(Errc::kKvmCapability, broken->what);
    traits.exit_from_ring3 = std::holds_alternative<ExitSyscall>(direct);
    if (traits.exit_from_ring3) return {};
  }
  traits.tss_type = kBusyTss;
  sregs_known_ = false;
  return {};
}

Result<void> Vcpu::set_up() {
  void* run = mmap(nullptr, static_cast<size_t>(vm_.run_size()), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (run == MAP_FAILED) return fail_host("mmap of the vCPU's run page");
  run_ = static_cast<kvm_run*>(run);
  if (ioctl(fd_.get(), KVM_SET_CPUID2, vm_.cpuid().data()) != 0) return fail_host("KVM_SET_CPUID2");
  kvm_sregs sregs{};
  if (ioctl(fd_.get(), KVM_GET_SREGS, &sregs) != 0) return fail_host("KVM_GET_SREGS");
  vm_.system().fill_sregs(sregs, index_);
  if (ioctl(fd_.get(), KVM_SET_SREGS, &sregs) != 0) return fail_host("KVM_SET_SREGS");
  kvm_xcrs xcrs{};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0].value = vm_.xcr0();
  if (ioctl(fd_.get(), KVM_SET_XCRS, &xcrs) != 0) return fail_host(fmt::format("KVM_SET_XCRS ({:#x})", vm_.xcr0()));
  struct {
    kvm_msrs header;
    kvm_msr_entry entries[3];
  } msrs{};
  msrs.header.nmsrs = 3;
  // STAR: syscall enters with CS 0x08; sysret leaves with CS 0x1b + 16 and SS 0x1b + 8.
  msrs.entries[0] = {kMsrStar, 0, uint64_t{kKernelCode} << 32 | uint64_t{0x1b} << 48};
  msrs.entries[1] = {kMsrLstar, 0, vm_.system().syscall_stub(index_)};
  msrs.entries[2] = {kMsrFmask, 0, kFlagsCleared};
  if (int const n = ioctl(fd_.get(), KVM_SET_MSRS, &msrs); n != 3) {
    return fail_host(fmt::format("KVM_SET_MSRS ({} of 3 taken)", n));
  }
  // The guest's vDSO reads the host's time stamp counter (vmm/vdso/time_data.h); KVM starts a vCPU's own at 0.
  uint64_t const tsc_offset = 0;
  kvm_device_attr const tsc{0, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, reinterpret_cast<uint64_t>(&tsc_offset)};
  if (ioctl(fd_.get(), KVM_SET_DEVICE_ATTR, &tsc) != 0) {
    int const err = errno;
    return fail(
        Errc::kKvmCapability,
        fmt::format("this KVM cannot give a guest the host's time stamp counter (KVM_VCPU_TSC_OFFSET: {}); Linux "
                    "5.16 and later can",
                    strerror(err)),
        err);
  }
  run_->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  run_->s.regs.sregs = sregs;
  return {};
}

Vcpu::~Vcpu() {
  if (run_ != nullptr) munmap(run_, static_cast<size_t>(vm_.run_size()));
}

void Vcpu::set_root(uint64_t root) noexcept {
  root_ = root;
  sregs_known_ = false;
}

uint8_t volatile* Vcpu::immediate_exit() noexcept {
  return &run_->immediate_exit;
}

void Vcpu::put(Registers const& r) {
  kvm_regs& k = run_->s.regs.regs;
  k = {r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8,
       r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip, (r.rflags & kUserFlags) | 0x202};
  run_->kvm_dirty_regs = KVM_SYNC_X86_REGS;
  kvm_sregs& s = run_->s.regs.sregs;
  // Special registers are set only where they differ: each time costs KVM a full check.
  if (!sregs_known_ || s.cs.selector != kUserCode || s.fs.base != r.fs_base || s.gs.base != r.gs_base) {
    vm_.system().fill_sregs(s, index_);
    s.tr.type = vm_.traits().tss_type;
    if (root_ != 0) s.cr3 = root_;
    s.fs.base = r.fs_base;
    s.gs.base = r.gs_base;
    run_->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    sregs_known_ = true;
  }
}

void Vcpu::take(Registers& r) {
  kvm_regs const& k = run_->s.regs.regs;
  r.rax = k.rax, r.rbx = k.rbx, r.rcx = k.rcx, r.rdx = k.rdx, r.rsi = k.rsi, r.rdi = k.rdi, r.rsp = k.rsp;
  r.rbp = k.rbp, r.r8 = k.r8, r.r9 = k.r9, r.r10 = k.r10, r.r11 = k.r11, r.r12 = k.r12, r.r13 = k.r13;
  r.r14 = k.r14, r.r15 = k.r15, r.rip = k.rip, r.rflags = k.rflags;
  r.fs_base = run_->s.regs.sregs.fs.base;
  r.gs_base = run_->s.regs.sregs.gs.base;
}

VmExit Vcpu::run(Registers& regs) {
  put(regs);
  int const result = ioctl(fd_.get(), KVM_RUN, 0);
  int const err = errno;
  take(regs);
  // Wherever in the stub it was stopped, by its own exit or by a kick: it is in a system call.
  if (in_stub(regs.rip) && (result == 0 || err == EINTR || err == EAGAIN)) return take_call(regs);
  if (result == 0) return classify(regs);
  if (err == EINTR || err == EAGAIN) return ExitKicked{};
  if (err == EFAULT) return ExitDenied{};
  return ExitBroken{fmt::format("KVM_RUN: {} (errno {}) at rip {:#x}", strerror(err), err, regs.rip)};
}

bool Vcpu::may_post(uint64_t nr) const noexcept {
  PostableCalls const& calls = vm_.postable();
  if (nr < STUB_HYPERCALLS) return calls[nr];
  uint64_t const hypercall = nr - kHypercallBase;
  return hypercall < STUB_CALLS - STUB_HYPERCALLS && calls[STUB_HYPERCALLS + hypercall];
}

bool Vcpu::in_stub(uint64_t rip) const noexcept {
  return rip - vm_.system().syscall_stub(index_) < MB_STRIDE;
}

// Ring 3 can jump anywhere into the stub: that is a call with odd rcx and r11, which harms nobody but its maker.
ExitSyscall Vcpu::take_call(Registers& regs) const noexcept {
  uint64_t const offset = regs.rip - vm_.system().syscall_stub(index_);
  ExitSyscall call{stub_place(offset), regs.r11, offset >= STUB_DIRECT};
  regs.rip = regs.rcx;
  regs.rflags = call.place == StubPlace::kEntered ? regs.r11 : kPlainFlags;
  regs.r11 = regs.rflags;
  return call;
}

VmExit Vcpu::classify(Registers& regs) {
  SystemPages const& system = vm_.system();
  if (run_->exit_reason != KVM_EXIT_IO) {
    if (run_->exit_reason == KVM_EXIT_INTR) return ExitKicked{};
    uint32_t const sub = run_->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run_->internal.suberror : 0;
    // An instruction that this KVM carries out itself (sldt, str, smsw… of ring 3) met memory that the host denies: KVM
    // takes that for a device, where the processor would have met a page fault.
    bool const emulated = run_->exit_reason == KVM_EXIT_MMIO || sub == KVM_INTERNAL_ERROR_EMULATION;
    ExitDenied denied;
    if (run_->exit_reason == KVM_EXIT_MMIO && run_->mmio.is_write != 0)
      denied.not_stored = run_->mmio.phys_addr & 0xfff;
    if (emulated && (run_->s.regs.sregs.cs.selector & 3) == 3 && drop_emulation()) return denied;
    return ExitBroken{fmt::format(
        "KVM exit reason {} (sub-error {}, hardware reason {:#x}) at rip {:#x}", run_->exit_reason, sub,
        run_->exit_reason == KVM_EXIT_FAIL_ENTRY ? run_->fail_entry.hardware_entry_failure_reason : 0, regs.rip)};
  }
  // Ring 3 can jump to any stub: an exception is believed only from CPL 0 on this vCPU's own ring-0 stack.
  bool const ring0 = (run_->s.regs.sregs.cs.selector & 3) == 0;
  int const vector = system.exception_stub(regs.rip);
  if (vector >= 0 && ring0 && system.on_ring0_stack(index_, regs.rsp)) {
    uint64_t const* frame = system.stack_word(regs.rsp);
    ExitException exception{vector, 0, run_->s.regs.sregs.cr2};
    if (has_error_code(vector)) exception.error_code = *frame++;
    regs.rip = frame[0];
    regs.rflags = frame[2];
    regs.rsp = frame[3];
    return exception;
  }
  // The exit instruction executed by ring 3 itself, or in another vCPU's stub: a privileged instruction, as on Linux.
  if (regs.rip >= 2 && run_->io.port == kExitPort) return ExitException{13, 0, 0};
  return ExitBroken{fmt::format("unexpected port exit {:#x} at rip {:#x}", run_->io.port, regs.rip)};
}

// Ends what KVM has begun for an instruction and would go on with at the next run; the registers are set anew then
// anyway.
bool Vcpu::drop_emulation() {
  for (int pieces = 0; run_->exit_reason == KVM_EXIT_MMIO; ++pieces) {
    if (pieces == kMostPieces) return false;
    uint8_t volatile* const at_once = immediate_exit();  // the gate clears it
    *at_once = 1;
    if (ioctl(fd_.get(), KVM_RUN, 0) < 0) {
      if (errno != EINTR) return false;
      break;
    }
  }
  kvm_vcpu_events events{};
  if (ioctl(fd_.get(), KVM_GET_VCPU_EVENTS, &events) != 0) return false;
  if (events.exception.injected == 0 && events.exception.pending == 0) return true;
  events.exception.injected = events.exception.pending = 0;
  return ioctl(fd_.get(), KVM_SET_VCPU_EVENTS, &events) == 0;
}

bool Vcpu::get_xsave(std::span<std::byte> to) {
  kvm_xsave area;
  if (to.size() > sizeof area.region || ioctl(fd_.get(), KVM_GET_XSAVE, &area) != 0) return false;
  // Some kernels report components that they refuse to take back.
  keep_components(area, vm_.xcr0());
  std::memcpy(to.data(), area.region, to.size());
  return true;
}

bool Vcpu::set_xsave(std::span<std::byte const> from) {
  kvm_xsave area{};
  if (from.size() > sizeof area.region) return false;
  std::memcpy(area.region, from.data(), from.size());
  keep_components(area, vm_.xcr0());
  return ioctl(fd_.get(), KVM_SET_XSAVE, &area) == 0;
}

bool Vcpu::reset_xsave() {
  kvm_xsave area{};
  area.region[0] = 0x37f;   // x87 control word
  area.region[6] = 0x1f80;  // MXCSR
  area.region[7] = 0xffff;  // MXCSR_MASK
  area.region[128] = 3;     // XSTATE_BV: x87, SSE
  return ioctl(fd_.get(), KVM_SET_XSAVE, &area) == 0;
}

}  // namespace vmm
