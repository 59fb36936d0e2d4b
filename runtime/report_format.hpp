// The three forms of a report, as text: pure functions. docs/reports.md describes each key and shows an example.
#pragma once

#include <string>

#include "runtime/fault_report.hpp"
#include "runtime/run_summary.hpp"

namespace vmsrs::runtime {

// One JSON object on one line, with its newline. Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] std::string json_line(FaultReport const& fault);
// `lost_lines`: lines of this report that could not be written.
[[nodiscard]] std::string json_line(RunSummary const& summary, uint64_t lost_lines);

// A few lines for a person, ending in a newline. Control characters of the guest's words are shown as \xNN, so that a
// crash message cannot steer the terminal.
[[nodiscard]] std::string paragraph(FaultReport const& fault);
// The same in one line.
[[nodiscard]]  // Something that is not right and belongs to no fault.
[[nodiscard]] std::string
finding_line(int thread, std::string const& what);
std::string one_line(FaultReport const& fault);

}  // namespace vmsrs::runtime
