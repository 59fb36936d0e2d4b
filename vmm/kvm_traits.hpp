// What differs between KVMs and matters to the monitor. Found by probing when the first vCPU starts, never by name
// (docs/platform.md).
#pragma once

namespace vmm {

struct KvmTraits {
  bool stub_at_ring0 = false;  // `syscall` enters LSTAR at CPL 0, as the manuals say; KVM-PVM stays at CPL 3
};

}  // namespace vmm
