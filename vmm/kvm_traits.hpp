// What differs between KVMs and matters to the monitor. Found by probing when the first vCPU starts, never by name
// (docs/platform.md).
#pragma once

#include <cstdint>

namespace vmm {

struct KvmTraits {
  bool stub_at_ring0 = false;  // `syscall` enters LSTAR at CPL 0, as the manuals say; KVM-PVM stays at CPL 3
  // Type of the TSS with which ring 3 may use the exit's port: busy (11), as VMX demands and as a task register always
  // has it on hardware; the SVM that QEMU emulates looks at the I/O bitmap only of one that is available (9).
  uint8_t tss_type = 11;
  bool exit_from_ring3 = false;  // it may with either: without, no call site is patched
  int64_t exit_ns = 0;           // what leaving the VM and entering it again took, at best
};

}  // namespace vmm
