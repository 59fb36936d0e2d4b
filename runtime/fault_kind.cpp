#include "runtime/fault_kind.hpp"

namespace vmsrs::runtime {
namespace {

// How far below its stack an overflowing frame may reach: one big frame, no more.
constexpr uint64_t kOverflowReach = 1 << 20;

bool in_guard(uint64_t address, srs_landing const& l) {
  return address < l.stack_low && l.stack_low - address <= kOverflowReach;
}

}  // namespace

enum srs_fault_kind fault_kind(vmm::Fault const& fault, vmm::Registers const& regs, srs_landing const* landing) {
  switch (fault.kind) {
    case vmm::FaultKind::kPage:
      if (landing != nullptr && in_guard(fault.address.value, *landing) && in_guard(regs.rsp - 8, *landing)) {
        return SRS_FAULT_STACK;
      }
      if (fault.access == vmm::FaultAccess::kExecute) return SRS_FAULT_FETCH;
      return fault.access == vmm::FaultAccess::kWrite ? SRS_FAULT_STORE : SRS_FAULT_LOAD;
    case vmm::FaultKind::kProtection:
    case vmm::FaultKind::kStackSegment:
      return SRS_FAULT_NONCANONICAL;
    case vmm::FaultKind::kDivide:
    case vmm::FaultKind::kFloat:
      return SRS_FAULT_DIVIDE;
    case vmm::FaultKind::kIllegal:
    case vmm::FaultKind::kBreakpoint:
      return SRS_FAULT_ILLEGAL;
    case vmm::FaultKind::kAlignment:
      return SRS_FAULT_ALIGNMENT;
    case vmm::FaultKind::kFatalSignal:
      return SRS_FAULT_ABORT;
    case vmm::FaultKind::kForced:
      return SRS_FAULT_DEADLINE;
  }
  return SRS_FAULT_REPORTED;
}

}  // namespace vmsrs::runtime
