#include "runtime/run_summary.hpp"

namespace vmsrs::runtime {

void FaultTotals::add(FaultReport const& fault) {
  ++faults;
  if (fault.kind < SRS_FAULT_KINDS) ++by_kind[fault.kind];
  uncontained += fault.outcome.starts_with("not contained") ? 1 : 0;
  passed_on += fault.outcome == "passed on" ? 1 : 0;
  words_polluted += fault.words_polluted;
  words_spliced += fault.words_spliced;
  pages += fault.pages;
  by_eager += fault.by_eager;
  by_trap += fault.by_trap;
  by_overwrite += fault.by_overwrite;
  by_sweep += fault.by_sweep;
  exposed += fault.exposed;
  dependents += fault.dependents;
  damaged_records += fault.damaged_records;
  unordered_records += fault.unordered_records;
  blocks_freed += fault.blocks_freed;
  locks_released += fault.locks_released;
  fds_closed += fault.fds_closed;
  fds_reopened += fault.fds_reopened;
  events_returned += fault.events_returned;
  files_undone += fault.files_undone;
  effects_left += fault.effects_left;
  wild_undone += fault.wild_undone;
  unexplained += fault.unexplained;
  not_whole += fault.not_whole.size();
  lock_cycles += fault.lock_cycles;
  output_before_abort += fault.output_before_abort ? 1 : 0;
  tainted += fault.tainted ? 1 : 0;
}

}  // namespace vmsrs::runtime
