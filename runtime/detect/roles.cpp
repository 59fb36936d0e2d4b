#include "runtime/detect/roles.hpp"

#include <algorithm>

namespace vmsrs::runtime::detect {
namespace {

constexpr uint64_t word_of(uint64_t epoch, unsigned seat) {
  return epoch << 8 | (seat + 1);
}
// -1: nobody.
int seat_in(uint64_t word) {
  int const seat = static_cast<int>(word & 0xff) - 1;
  return seat < static_cast<int>(kMaxSeats) ? seat : -1;
}

}  // namespace

char const* name_of(Role role) {
  switch (role) {
    case Role::kMaster:
      return "master";
    case Role::kBackup:
      return "backup";
    case Role::kFollower:
      return "follower";
  }
  return "?";
}

Role role_of(RoleBoard const& board, unsigned seat) {
  uint64_t const master = board.master.load(), backup = board.backup.load();
  if (seat_in(master) == static_cast<int>(seat)) return Role::kMaster;
  if (seat_in(backup) == static_cast<int>(seat) && backup >> 8 == master >> 8) return Role::kBackup;
  return Role::kFollower;
}

Roles::Roles(RoleBoard& board, ProcessId own, uint64_t lease_ms, std::function<bool(ProcessId)> alive)
    : board_(board), own_(own), lease_ms_(lease_ms), alive_(std::move(alive)) {}

vmm::Result<void> Roles::join(uint64_t now_ns) {
  for (bool const also_dead : {false, true}) {
    for (unsigned i = 0; i < kMaxSeats && !seated_; ++i) {
      ProcessId owner = board_.seats[i].owner.load();
      if (owner != 0 && (!also_dead || alive_(owner))) continue;
      // A role of the seat's last owner must have gone to somebody else first: its loss would not be seen.
      if (owner != 0 && role_of(board_, i) != Role::kFollower) continue;
      board_.seats[i].beat_ns = now_ns;
      if (!board_.seats[i].owner.compare_exchange_strong(owner, own_)) continue;
      seat_ = i;
      seated_ = true;
    }
  }
  if (!seated_) return vmm::fail(vmm::Errc::kBusy, "all places for detectors are taken");
  DetectorSeat& own = seat();
  own.beat_ns = own.started_ns = joined_ns_ = now_ns;
  own.period_us = 0, own.predicted_ppm = 0, own.sweeps = 0, own.looks = 0, own.cpu_ns = 0;
  return {};
}

void Roles::leave() {
  if (!seated_) return;
  seated_ = false;
  role_ = Role::kFollower;
  // Taken for dead, and somebody else sits there now.
  if (seat().owner.load() != own_) return;
  uint64_t master = board_.master.load();
  // The seat number goes, the epoch stays: the next master has a greater one.
  if (seat_in(master) == static_cast<int>(seat_)) board_.master.compare_exchange_strong(master, master & ~0xffULL);
  uint64_t backup = board_.backup.load();
  if (seat_in(backup) == static_cast<int>(seat_)) board_.backup.compare_exchange_strong(backup, 0);
  seat().owner = 0;
}

bool Roles::is_master() const noexcept {
  return seated_ && seat_in(board_.master.load()) == static_cast<int>(seat_);
}

std::vector<ProcessId> Roles::others() const {
  std::vector<ProcessId> found;
  for (unsigned i = 0; i < kMaxSeats; ++i) {
    ProcessId const owner = board_.seats[i].owner.load();
    if (owner != 0 && !(seated_ && i == seat_)) found.push_back(owner);
  }
  return found;
}

Verdict Roles::judge(unsigned seat, uint64_t now_ns) const {
  DetectorSeat const& other = board_.seats[seat];
  ProcessId const owner = other.owner.load();
  DetectorEvidence evidence;
  evidence.there = owner != 0 && alive_(owner);
  // A detector that was alone had nobody to beat for: its silence counts from when this one came.
  uint64_t const beat = std::max(other.beat_ns.load(), joined_ns_);
  evidence.beat_age_ms = now_ns > beat ? (now_ns - beat) / 1'000'000 : 0;
  evidence.timeout_ms = lease_ms_;
  return judge_detector(evidence);
}

bool Roles::take_over(uint64_t master, uint64_t now_ns) {
  seat().beat_ns = now_ns;
  return board_.master.compare_exchange_strong(master, word_of((master >> 8) + 1, seat_));
}

void Roles::watch_as_master(Step& step, uint64_t now_ns) {
  uint64_t const epoch = board_.master.load() >> 8;
  uint64_t const backup_word = board_.backup.load();
  int backup = backup_word >> 8 == epoch ? seat_in(backup_word) : -1;
  int candidate = -1;
  for (unsigned i = 0; i < kMaxSeats; ++i) {
    ProcessId owner = board_.seats[i].owner.load();
    if (i == seat_) continue;
    if (owner == 0) {
      told_[i] = 0;
      if (backup == static_cast<int>(i)) backup = -1;
      continue;
    }
    Verdict const verdict = judge(i, now_ns);
    if (!verdict.failed()) {
      told_[i] = 0;
      if (candidate < 0) candidate = static_cast<int>(i);
      continue;
    }
    if (told_[i] != owner) {
      step.losses.push_back({owner, backup == static_cast<int>(i) ? Role::kBackup : Role::kFollower, verdict});
      told_[i] = owner;
    }
    if (backup == static_cast<int>(i)) backup = -1;
    if (verdict.failure == FailureClass::kCrashStop) board_.seats[i].owner.compare_exchange_strong(owner, 0);
  }
  if (backup < 0) {
    board_.backup = candidate < 0 ? 0 : word_of(epoch, static_cast<unsigned>(candidate));
  }
}

Roles::Step Roles::step(uint64_t now_ns) {
  Step step;
  Role const before = role_;
  seat().beat_ns = now_ns;
  uint64_t const master = board_.master.load();
  int const holder = seat_in(master);
  if (holder >= 0 && holder != static_cast<int>(seat_)) {
    Verdict const verdict = judge(static_cast<unsigned>(holder), now_ns);
    if (verdict.failed()) {
      uint64_t const backup_word = board_.backup.load();
      int const backup = backup_word >> 8 == master >> 8 ? seat_in(backup_word) : -1;
      // The backup first; anybody if there is none, or it is lost too.
      bool const mine =
          backup == static_cast<int>(seat_) || backup < 0 || judge(static_cast<unsigned>(backup), now_ns).failed();
      ProcessId lost = board_.seats[static_cast<unsigned>(holder)].owner.load();
      if (mine && take_over(master, now_ns)) {
        step.losses.push_back({lost, Role::kMaster, verdict});
        told_[static_cast<unsigned>(holder)] = lost;
        if (verdict.failure == FailureClass::kCrashStop && lost != 0) {
          board_.seats[static_cast<unsigned>(holder)].owner.compare_exchange_strong(lost, 0);
        }
      }
    }
  } else if (holder < 0) {
    uint64_t const backup_word = board_.backup.load();
    int const backup = backup_word != 0 && backup_word >> 8 == master >> 8 ? seat_in(backup_word) : -1;
    if (backup < 0 || backup == static_cast<int>(seat_) || judge(static_cast<unsigned>(backup), now_ns).failed()) {
      take_over(master, now_ns);
    }
  }
  role_ = role_of(board_, seat_);
  if (role_ == Role::kMaster) watch_as_master(step, now_ns);
  step.role = role_;
  step.changed = role_ != before;
  return step;
}

}  // namespace vmsrs::runtime::detect
