// Code in which a thread must not be cut off: what it was changing is shared, and no lock that can be given back says
// so. The C library's allocator, streams and loader, event libraries, and what a server's adapter names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/fault_report.hpp"
#include "runtime/symbols.hpp"

namespace vmsrs::runtime {

// An adapter's part (srs/rescue.h), copied from the guest.
struct CriticalNames {
  std::vector<std::string> beginnings;  // of demangled function names
  uint64_t stretch = 0;
};

// Why frames such as these (named, innermost first, none of them the read's callers) forbid a rescue; empty: they do
// not. `locks_known`: what a lock function of the C library was doing is known from the intent.
[[nodiscard]] std::string critical_code(std::vector<Frame> const& frames, CriticalNames const& names, bool locks_known,
                                        Symbols& symbols);

}  // namespace vmsrs::runtime
