// Master, backup and followers among the detectors of one registry (paper 000, algorithm 1): the master watches VMs,
// hosts and the other detectors, and names the backup; the backup watches the master and takes its place; followers
// wait. If both are lost at once, a follower takes over.
//
// The lease is the master's word on the board (status_page.hpp): whoever changes it by compare-and-swap is master, in a
// new epoch. A master that was only asleep finds another epoch there and is a follower; what it does must be preceded
// by is_master(). One board for all detectors of a host; detectors of several hosts need a lease that all hosts see.
//
// One Roles per detector; not thread-safe, but for is_master().
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "runtime/detect/status_page.hpp"
#include "runtime/detect/verdict.hpp"
#include "vmm/error.hpp"

namespace vmsrs::runtime::detect {

enum class Role : uint8_t { kFollower, kBackup, kMaster };
char const* name_of(Role role);

class Roles {
 public:
  // alive: whether a process is there (is_alive(); tests have their own).
  Roles(RoleBoard& board, ProcessId own, uint64_t lease_ms, std::function<bool(ProcessId)> alive);
  ~Roles() { leave(); }
  Roles(Roles const&) = delete;
  Roles& operator=(Roles const&) = delete;

  // Takes a seat. Errc::kBusy: none is free.
  vmm::Result<void> join(uint64_t now_ns);
  // Gives seat and roles back: deregistration, no failure.
  void leave();

  struct Loss {  // of another detector, found by the one that watches it
    ProcessId who = 0;
    Role role = Role::kFollower;
    Verdict verdict;
  };
  struct Step {
    Role role = Role::kFollower;
    bool changed = false;      // since the last step
    std::vector<Loss> losses;  // master: backup and followers; backup, or whoever takes over: the master
  };
  // Beats, looks at the others, and takes or gives roles. To be called every lease/4 or when somebody rang.
  Step step(uint64_t now_ns);

  [[nodiscard]] bool is_master() const noexcept;
  [[nodiscard]] Role role() const noexcept { return role_; }
  [[nodiscard]] DetectorSeat& seat() noexcept { return board_.seats[seat_]; }
  [[nodiscard]] uint64_t epoch() const noexcept { return board_.master.load() >> 8; }
  // Seats of others that are taken.
  [[nodiscard]] std::vector<ProcessId> others() const;

 private:
  [[nodiscard]] Verdict judge(unsigned seat, uint64_t now_ns) const;
  bool take_over(uint64_t master, uint64_t now_ns);
  void watch_as_master(Step& step, uint64_t now_ns);

  RoleBoard& board_;
  ProcessId own_;
  uint64_t lease_ms_;
  std::function<bool(ProcessId)> alive_;
  unsigned seat_ = 0;
  bool seated_ = false;
  Role role_ = Role::kFollower;
  uint64_t joined_ns_ = 0;
  std::array<ProcessId, kMaxSeats> told_{};  // detectors whose silence was reported
};

// The role that a seat has, as the board says.
Role role_of(RoleBoard const& board, unsigned seat);

}  // namespace vmsrs::runtime::detect
