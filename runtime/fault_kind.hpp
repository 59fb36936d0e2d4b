// From the monitor's facts to libsrs's fault kinds. Pure, so that each case is unit-tested without a VM.
#pragma once

#include "srs/abi.h"
#include "vmm/hooks.hpp"
#include "vmm/registers.hpp"

namespace vmsrs::runtime {

// `landing`: the innermost scope's, for its stack's bounds; null: none.
enum srs_fault_kind fault_kind(vmm::Fault const& fault, vmm::Registers const& regs, srs_landing const* landing);

}  // namespace vmsrs::runtime
