// Polluted pages on their way back: demand-driven restoration (design.md section 4 item 3). And the reports of faults
// that are not over: a page is away, or the thread has not landed.
//
// Lock: the caller holds the abort mutex for every call, so that a trap taken during an abort waits until the last page
// is away and the undo is done.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include "runtime/fault_report.hpp"
#include "runtime/store_client.hpp"
#include "vmm/address_space.hpp"

namespace vmsrs::runtime {

class Restorer {
 public:
  Restorer(vmm::AddressSpace& memory, store::StoreClient& store) : memory_(memory), store_(store) {}

  // Before the undo: no healthy thread sees these pages until they are back. False: the host has no room for so many
  // scattered pages, and none was taken; the undo must be eager.
  [[nodiscard]] bool take_away(std::vector<uint64_t> const& pages);
  // After it: those of `candidates` that are not polluted come back at once; the others wait. Their words are counted
  // in `report` as they come back; finished() hands it out when all are, and the thread has landed. (None of both, if
  // the undo was eager.)
  void keep(std::vector<uint64_t> const& candidates, std::vector<uint64_t> const& polluted, FaultReport report,
            uint64_t due_ns);
  // A page that somebody needs. word != 0: it is about to be overwritten as a whole. False: it was not away.
  bool restore(uint64_t page, store::Reason reason, uint64_t word = 0);
  // Puts everything right that has waited long enough (all with due_ns = UINT64_MAX).
  void sweep(uint64_t now_ns);
  [[nodiscard]] bool waiting() const { return !away_.empty(); }
  // Adds to the report of a fault whose thread has not landed.
  void amend(uint64_t fault, std::function<void(FaultReport&)> const& add);
  // The thread of that fault is back in its program, and spent so many exits on it.
  void landed(uint64_t fault, uint64_t exits);
  // Reports whose last page is back and whose thread has landed, complete.
  std::vector<FaultReport> finished();

 private:
  struct Open {
    FaultReport report;
    std::set<uint64_t> pages;
    uint64_t due_ns;
    bool landed = false;
  };
  vmm::AddressSpace& memory_;
  store::StoreClient& store_;
  std::set<uint64_t> away_;
  std::vector<Open> open_;
};

}  // namespace vmsrs::runtime
