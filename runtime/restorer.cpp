#include "runtime/restorer.hpp"

#include <algorithm>

namespace vmsrs::runtime {
namespace {

std::vector<vmm::GuestAddr> addresses(std::vector<uint64_t> const& pages) {
  std::vector<vmm::GuestAddr> out;
  out.reserve(pages.size());
  for (uint64_t page : pages) out.emplace_back(page);
  return out;
}

}  // namespace

bool Restorer::take_away(std::vector<uint64_t> const& pages) {
  if (!memory_.take_away(addresses(pages))) return false;
  away_.insert(pages.begin(), pages.end());
  return true;
}

void Restorer::keep(std::vector<uint64_t> const& candidates, std::vector<uint64_t> const& polluted, FaultReport report,
                    uint64_t due_ns) {
  std::set<uint64_t> const stay(polluted.begin(), polluted.end());
  std::vector<uint64_t> back;
  for (uint64_t page : candidates) {
    bool const older = std::ranges::any_of(open_, [&](Open const& o) { return o.pages.contains(page); });
    if (!stay.contains(page) && !older && away_.erase(page) != 0) back.push_back(page);
  }
  memory_.bring_back(addresses(back));
  open_.push_back({.report = std::move(report), .pages = stay, .due_ns = due_ns});
}

bool Restorer::restore(uint64_t page, store::Reason reason, uint64_t word) {
  if (away_.erase(page) == 0) return false;
  auto const result = store_.restore_page(page, reason, word);
  // The words are right in memory; only now may the page be seen.
  memory_.bring_back(addresses({page}));
  uint64_t const words = result ? result->restored : 0;
  uint64_t const overwritten = result ? result->overwritten : 0;
  // Counted for the newest abort that polluted the page: its words are the ones that were read.
  for (auto it = open_.rbegin(); it != open_.rend(); ++it) {
    if (it->pages.erase(page) == 0) continue;
    (reason == store::Reason::sweep ? it->report.by_sweep : it->report.by_trap) += words - overwritten;
    it->report.by_overwrite += overwritten;
    break;
  }
  for (Open& open : open_) open.pages.erase(page);
  return true;
}

void Restorer::sweep(uint64_t now_ns) {
  std::vector<uint64_t> due;
  for (Open const& open : open_) {
    if (open.due_ns <= now_ns) due.insert(due.end(), open.pages.begin(), open.pages.end());
  }
  for (uint64_t page : due) restore(page, store::Reason::sweep);
}

void Restorer::amend(uint64_t fault, std::function<void(FaultReport&)> const& add) {
  for (Open& open : open_) {
    if (open.report.id == fault) add(open.report);
  }
}

void Restorer::landed(uint64_t fault, uint64_t exits) {
  for (Open& open : open_) {
    if (open.report.id != fault) continue;
    open.report.exits = exits;
    open.landed = true;
  }
}

std::vector<FaultReport> Restorer::finished() {
  std::vector<FaultReport> done;
  std::erase_if(open_, [&](Open& open) {
    if (!open.pages.empty() || !open.landed) return false;
    done.push_back(std::move(open.report));
    return true;
  });
  return done;
}

}  // namespace vmsrs::runtime
