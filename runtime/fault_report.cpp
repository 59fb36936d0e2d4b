#include "runtime/fault_report.hpp"

namespace vmsrs::runtime {

char const* name_of(enum srs_fault_kind kind) {
  switch (kind) {
    case SRS_FAULT_NONE:
      return "none";
    case SRS_FAULT_LOAD:
      return "load";
    case SRS_FAULT_STORE:
      return "store";
    case SRS_FAULT_FETCH:
      return "bad call";
    case SRS_FAULT_NONCANONICAL:
      return "non-canonical access";
    case SRS_FAULT_DIVIDE:
      return "division";
    case SRS_FAULT_ILLEGAL:
      return "illegal instruction";
    case SRS_FAULT_STACK:
      return "stack overflow";
    case SRS_FAULT_ABORT:
      return "abort";
    case SRS_FAULT_EXCEPTION:
      return "uncaught exception";
    case SRS_FAULT_REPORTED:
      return "reported";
    case SRS_FAULT_POINTER:
      return "bad pointer";
    case SRS_FAULT_DEADLINE:
      return "deadline";
    case SRS_FAULT_DEPENDENT:
      return "dependent";
    case SRS_FAULT_ALIGNMENT:
      return "alignment";
    case SRS_FAULT_KINDS:
      break;
  }
  return "unknown";
}

char const* name_of(enum srs_isolation isolation) {
  switch (isolation) {
    case SRS_HOLD:
      return "hold";
    case SRS_RELEASE:
      return "release";
    case SRS_TRACK:
      return "track";
  }
  return "unknown";
}

}  // namespace vmsrs::runtime
