#include "runtime/detect/wait_graph.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace vmsrs::runtime::detect {
namespace {

constexpr uint32_t kContended = 2;  // of glibc's lowlevellock

ThreadLook const* find(std::vector<ThreadLook> const& looks, int tid) {
  auto const it = std::ranges::lower_bound(looks, tid, {}, &ThreadLook::tid);
  return it != looks.end() && it->tid == tid ? &*it : nullptr;
}

bool waits_for_lock(ThreadLook const& t) {
  return t.blocked && t.unlimited_futex && t.word == kContended;
}

}  // namespace

std::vector<int> lock_cycle(std::vector<ThreadLook> const& looks) {
  for (ThreadLook const& start : looks) {
    std::vector<int> path;
    for (ThreadLook const* at = &start; at != nullptr && waits_for_lock(*at); at = find(looks, at->owner)) {
      auto const seen = std::ranges::find(path, at->tid);
      if (seen != path.end()) return {seen, path.end()};
      path.push_back(at->tid);
    }
  }
  return {};
}

void WaitGraph::look(std::vector<ThreadLook> looks, uint64_t passed_ns) {
  cycle_text_.clear();
  spinning_.clear();
  auto const unmoved = [&](int tid) {
    ThreadLook const* const now = find(looks, tid);
    ThreadLook const* const then = find(before_, tid);
    return now != nullptr && then != nullptr && now->exits == then->exits;
  };
  std::vector<int> cycle = lock_cycle(looks);
  if (!cycle.empty() && cycle == cycle_before_ && std::ranges::all_of(cycle, unmoved)) {
    for (int const tid : cycle) cycle_text_ += fmt::format("thread {} waits for a lock of ", tid);
    cycle_text_ += fmt::format("thread {}", cycle.front());
  }
  all_blocked_ = !looks.empty() && std::ranges::all_of(looks, [&](ThreadLook const& t) {
    return t.blocked && t.unlimited_futex && unmoved(t.tid);
  });
  for (ThreadLook const& t : looks) {
    ThreadLook const* const then = find(before_, t.tid);
    if (then == nullptr || !t.in_guest || !then->in_guest || t.exits != then->exits) continue;
    if (passed_ns == 0 || (t.cpu_ns - then->cpu_ns) * 8 < passed_ns) continue;
    spinning_ = fmt::format("thread {} computes and makes no call", t.tid);
    break;
  }
  before_ = std::move(looks);
  cycle_before_ = std::move(cycle);
}

}  // namespace vmsrs::runtime::detect
