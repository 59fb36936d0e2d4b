#include "vmm/pollers.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "vmm/poller_priority.hpp"
#include "vmm/seccomp_filter.hpp"

namespace vmm {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// The guest's wait: about what leaving the VM and being woken outside costs, so that spinning in vain at most doubles
// a wait's price.
constexpr auto kSpin = microseconds(50);
constexpr auto kIdleBeforeYield = microseconds(20);
constexpr auto kIdleBeforePark = microseconds(2000);
constexpr auto kIdleBeforeParkFixed = milliseconds(10);
constexpr unsigned kScansPerClock = 32;
// Calls in a row, each within kBusyGapNs of the one before, that wake the pollers.
constexpr unsigned kBusyCalls = 8;
constexpr int64_t kBusyGapNs = 500'000;
// After a time awake in which this many calls were answered, one call is enough for a while: bursts.
constexpr uint64_t kGoodTime = 100;
constexpr int64_t kHotNs = 50'000'000;
constexpr int32_t kMostPatience = 8;
constexpr unsigned kImpatientPosts = 32;
// Saturation: of this many calls more than a quarter found no poller.
constexpr uint32_t kWindow = 128;
constexpr int64_t kFirstBackoffNs = 5'000'000, kLastBackoffNs = 1'000'000'000;
constexpr auto kStuck = milliseconds(20);
// A processor is reserved for each poller when the exits that it saves would take more than this many; where guests can
// do without that processor a little is enough.
constexpr double kWorthTaking = 1.2, kWorthKeeping = 1.0, kWorthSpare = 0.03;
// Taken soon, kept for long: a client that was held up for a moment is no reason to give a processor back.
constexpr int64_t kWeighNs = 4'000'000, kWeighSoonNs = 300'000, kWeighKeptNs = 100'000'000;
constexpr unsigned kScansPerWeighing = 64;
// Comparing with exits: how long each way, and for how long the loser is left alone.
constexpr int64_t kFirstSpanNs = 150'000'000, kLastSpanNs = 2'400'000'000;
constexpr int64_t kTrialNs = 25'000'000, kLongTrialNs = 100'000'000;
constexpr int64_t kFirstLossNs = 200'000'000, kLastLossNs = 4'000'000'000;
constexpr uint64_t kTrialCalls = 40;
// Exits cannot make more calls than processors divided by an exit's price; so many times as much needs no trial.
constexpr double kPlainlyFaster = 1.3, kTooFewToTell = 0.05, kSlower = 1.1;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

void pause_cpu() noexcept {
  __builtin_ia32_pause();
}

// Rounds of the stub's loop in kSpin; its body is about what this loop does.
int32_t measure_spin_limit() {
  constexpr int kRounds = 500;
  int64_t best = INT64_MAX;
  for (int i = 0; i < 3; ++i) {
    int64_t const start = now_ns();
    for (int n = 0; n < kRounds; ++n) pause_cpu();
    best = std::min(best, now_ns() - start);
  }
  int64_t const rounds = std::chrono::nanoseconds(kSpin).count() * kRounds / std::max<int64_t>(best, 1);
  return static_cast<int32_t>(std::clamp<int64_t>(rounds, 100, 100'000));
}

}  // namespace

struct Pollers::Poller {
  std::atomic<int> cpu{-1}, tid{0};          // where it is; 0: not yet running
  std::atomic<int> reserved{-1};             // its processor while reserved_
  int kept_to = -1;                          // what its affinity is; -1: as the monitor started
  std::atomic<int64_t> serving_since_ns{0};  // 0: not in a handler
  std::atomic<bool> retired{false};          // replaced: ends as soon as it can
  std::atomic<bool> ended{false};            // and has
  std::thread thread;
};

Pollers::Pollers(int count, unsigned seats, Stats& stats, Placement* placement)
    : count_(count),
      stats_(stats),
      seats_(seats),
      inside_((seats + 63) / 64),
      placement_(placement),
      exit_ns_(std::chrono::nanoseconds(kSpin).count()) {
  if (count_ != 0) spin_limit_ = measure_spin_limit();
  sched_getaffinity(0, sizeof allowed_, &allowed_);
}

Pollers::~Pollers() {
  stop();
}

void Pollers::stop() noexcept {
  stopping_ = true;
  active_ = true;
  active_.notify_all();
  std::lock_guard lock(mutex_);
  for (auto& poller : pollers_) {
    if (poller->thread.joinable()) poller->thread.join();
  }
  pollers_.clear();
}

// ---- the guest thread's side ----

void Pollers::enter(Seat& seat, CallServer& server, bool post) noexcept {
  if (count_ == 0) return;
  bool const on = post && active();
  if (seat.mailbox_->enabled.load(std::memory_order_relaxed) != (on ? 1U : 0U)) {
    seat.mailbox_->enabled.store(on ? 1 : 0, std::memory_order_relaxed);
    seat.mailbox_->spin_limit.store(static_cast<uint32_t>(spin_limit_), std::memory_order_relaxed);
  }
  if (!on) return;
  seat.server_ = &server;
  seat.phase_.store(Seat::kInside, std::memory_order_release);
  auto const index = static_cast<size_t>(&seat - seats_.data());
  inside_[index / 64].fetch_or(1ULL << (index % 64));
}

void Pollers::leave(Seat& seat) noexcept {
  uint32_t expected = Seat::kInside;
  if (seat.phase_.load(std::memory_order_relaxed) == Seat::kOutside) return;
  while (!seat.phase_.compare_exchange_strong(expected, Seat::kOutside, std::memory_order_acquire)) {
    for (int i = 0; i < 200 && expected == Seat::kTaken; ++i) {
      pause_cpu();
      expected = seat.phase_.load(std::memory_order_relaxed);
    }
    if (expected == Seat::kTaken) seat.phase_.wait(Seat::kTaken, std::memory_order_relaxed);
    expected = Seat::kInside;
  }
  auto const index = static_cast<size_t>(&seat - seats_.data());
  inside_[index / 64].fetch_and(~(1ULL << (index % 64)));
}

PostFate Pollers::settle(Seat& seat, StubPlace place, uint64_t number) noexcept {
  if (place == StubPlace::kEntered || place == StubPlace::kNotPosted) return PostFate::kNotMade;
  Mailbox& mailbox = *seat.mailbox_;
  // The guest's register is the truth where it has it; else the mailbox, which another thread may have damaged.
  uint64_t const posted = place == StubPlace::kSpinning ? number : mailbox.posted.load(std::memory_order_acquire);
  PostFate fate = PostFate::kDamaged;
  if (posted == seat.answered_) fate = PostFate::kAnswered;
  if (posted == seat.answered_ + 1) fate = PostFate::kNotMade;
  if (fate == PostFate::kNotMade) {
    stats_.spun_out.fetch_add(1, std::memory_order_relaxed);
    if (seat.seen_ != posted) missed();
    compare(now_ns());
    if (seat.seen_ == posted && seat.wait_scans_ != 0 && seat.patience_ > -kMostPatience) --seat.patience_;
  }
  bool const damaged = fate == PostFate::kDamaged || mailbox.posted.load(std::memory_order_relaxed) != posted;
  if (damaged) stats_.mailbox_damaged.fetch_add(1, std::memory_order_relaxed);
  seat.wait_scans_ = 0;
  seat.refused_ = 0;
  seat.seen_ = seat.answered_;
  mailbox.posted.store(seat.answered_, std::memory_order_relaxed);
  mailbox.done.store(seat.answered_, std::memory_order_relaxed);
  return fate;
}

void Pollers::note_exit(Seat& seat) noexcept {
  if (count_ == 0) return;
  exits_.fetch_add(1, std::memory_order_relaxed);
  if (active()) return;
  int64_t const now = now_ns();
  seat.exits_in_row_ = now - seat.last_exit_ns_ < kBusyGapNs ? seat.exits_in_row_ + 1 : 0;
  seat.last_exit_ns_ = now;
  bool const hot = now < hot_until_ns_.load(std::memory_order_relaxed);
  if ((seat.exits_in_row_ < kBusyCalls && !hot && !trying_exits_) ||
      now < quiet_until_ns_.load(std::memory_order_relaxed))
    return;
  seat.exits_in_row_ = 0;
  if (!trying_exits_.load(std::memory_order_relaxed) || trial_over(now)) wake();
}

// A guest spun for its whole time and no poller had looked: the pollers have no processor, one of them is stuck, or one
// waits for the very processor on which the guest spins.
void Pollers::missed() noexcept {
  stats_.posts_missed.fetch_add(1, std::memory_order_relaxed);
  if (window_missed_.fetch_add(1, std::memory_order_relaxed) + 1 >= kWindow / 4 && count_ == kAuto) {
    if (reserved_.load(std::memory_order_relaxed) || !weigh(kWeighSoonNs)) {
      suspend();
      return;
    }
    window_missed_ = window_calls_ = 0;
  }
  steer_from_here();
  replace_stuck();
}

// Off for a while, each time longer until it goes well again.
void Pollers::suspend() noexcept {
  int64_t const wait = std::clamp(backoff_ns_.load() * 2, kFirstBackoffNs, kLastBackoffNs);
  backoff_ns_ = wait;
  quiet_until_ns_ = now_ns() + wait;
  window_missed_ = window_calls_ = 0;
  stats_.polling_suspended.fetch_add(1, std::memory_order_relaxed);
  turn_off();
}

// The kernel likes to wake a thread where its waker runs, and the caller is about to spin there.
void Pollers::steer_from_here() noexcept {
  if (reserved_.load(std::memory_order_relaxed)) return;
  int const here = sched_getcpu();
  if (here < 0 || here >= CPU_SETSIZE || CPU_COUNT(&allowed_) < 2) return;
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  for (auto const& poller : pollers_) {
    int const tid = poller->tid.load(std::memory_order_relaxed);
    if (tid == 0 || poller->cpu.load(std::memory_order_relaxed) != here) continue;
    cpu_set_t elsewhere = allowed_;
    CPU_CLR(static_cast<unsigned>(here), &elsewhere);
    sched_setaffinity(tid, sizeof elsewhere, &elsewhere);
  }
}

// ---- the pollers' side ----

// Whether the pollers earn processors of their own by now; takes or gives back. Not before the last time is least_ns
// ago. True: they have them.
bool Pollers::weigh(int64_t least_ns) noexcept {
  std::unique_lock lock(weigh_mutex_, std::try_to_lock);
  int64_t const now = now_ns();
  compare(now);
  bool const have = reserved_.load(std::memory_order_relaxed);
  if (!lock || placement_ == nullptr || now - weighed_ns_ < (have ? kWeighKeptNs : least_ns)) return have;
  uint64_t const calls = stats_.exitless_calls.load(std::memory_order_relaxed) +
                         stats_.posts_missed.load(std::memory_order_relaxed) + exits_.load(std::memory_order_relaxed);
  auto const span = static_cast<double>(std::max<int64_t>(now - std::exchange(weighed_ns_, now), 1));
  auto const made = static_cast<double>(calls - std::exchange(weighed_calls_, calls));
  auto const scans = static_cast<double>(scans_.exchange(0, std::memory_order_relaxed));
  auto const seen = static_cast<double>(threads_seen_.exchange(0, std::memory_order_relaxed));
  unsigned const pollers = wanted();
  double const saved = made * static_cast<double>(exit_ns_.load(std::memory_order_relaxed)) / span / pollers;
  int const left = CPU_COUNT(&allowed_) - static_cast<int>(pollers);
  bool const crowded = scans == 0 || seen / scans > left + 0.5;
  bool const worth = left > 0 && saved >= (crowded ? (have ? kWorthKeeping : kWorthTaking) : kWorthSpare);
  if (worth == have) return have;
  if (worth) return reserve();
  give_back();
  weighed_ns_ = now + kWeighKeptNs;
  return false;
}

// ---- comparing with exits ----

double Pollers::calls_a_ns(int64_t now) const noexcept {
  uint64_t const calls = stats_.exitless_calls.load(std::memory_order_relaxed) +
                         stats_.spun_out.load(std::memory_order_relaxed) + exits_.load(std::memory_order_relaxed);
  return static_cast<double>(calls - span_calls_) / static_cast<double>(std::max<int64_t>(now - span_since_ns_, 1));
}

void Pollers::begin_span(int64_t now) noexcept {
  span_since_ns_ = now;
  span_calls_ = stats_.exitless_calls.load(std::memory_order_relaxed) +
                stats_.spun_out.load(std::memory_order_relaxed) + exits_.load(std::memory_order_relaxed);
}

// While the pollers are awake: at the end of a span, whether exits are to be tried.
void Pollers::compare(int64_t now) noexcept {
  if (count_ != kAuto || now < compare_at_ns_.load(std::memory_order_relaxed)) return;
  std::unique_lock lock(compare_mutex_, std::try_to_lock);
  if (!lock || !active() || now < compare_at_ns_.load(std::memory_order_relaxed)) return;
  if (span_since_ns_ != 0) {
    rate_polled_ = calls_a_ns(now);
    double const by_exits = rate_polled_ * static_cast<double>(exit_ns_.load(std::memory_order_relaxed));
    if (by_exits > kTooFewToTell && by_exits < kPlainlyFaster * CPU_COUNT(&allowed_)) {
      trying_exits_ = true;
      quiet_until_ns_ = now + kTrialNs;
      stats_.exits_tried.fetch_add(1, std::memory_order_relaxed);
      turn_off();
    }
  }
  begin_span(now);
  next_span_ns_ = std::max(next_span_ns_, kFirstSpanNs);
  compare_at_ns_ = now + next_span_ns_;
}

// While exits are tried: whether the pollers may wake again.
bool Pollers::trial_over(int64_t now) noexcept {
  std::unique_lock lock(compare_mutex_, std::try_to_lock);
  if (!lock || !trying_exits_.load(std::memory_order_relaxed)) return false;
  double const rate = calls_a_ns(now);
  int64_t const span = now - span_since_ns_;
  if (rate * static_cast<double>(span) < kTrialCalls && span < kLongTrialNs) return false;
  trying_exits_ = false;
  bool const slower = rate > rate_polled_ * kSlower;
  lost_for_ns_ = slower ? std::clamp(lost_for_ns_ * 2, kFirstLossNs, kLastLossNs) : 0;
  next_span_ns_ = slower ? kFirstSpanNs : std::min(next_span_ns_ * 2, kLastSpanNs);
  if (slower) {
    quiet_until_ns_ = now + lost_for_ns_;
    stats_.exits_faster.fetch_add(1, std::memory_order_relaxed);
  }
  span_since_ns_ = 0;  // a new span begins when the pollers are at work again
  compare_at_ns_ = 0;
  return !slower;
}

// Each poller gets the processor that it is on, or another that no other poller has.
bool Pollers::reserve() noexcept {
  if (placement_ == nullptr) return false;
  std::unique_lock lock(mutex_, std::try_to_lock);
  std::unique_lock reserving(reserve_mutex_, std::try_to_lock);
  if (!lock || !reserving || !active() || stopping_) return false;
  cpu_set_t taken{};
  for (auto const& poller : pollers_) {
    if (poller->retired.load(std::memory_order_relaxed)) continue;
    int cpu = poller->cpu.load(std::memory_order_relaxed);
    auto const free = [&](int n) {
      return n >= 0 && n < CPU_SETSIZE && CPU_ISSET(static_cast<unsigned>(n), &allowed_) &&
             !CPU_ISSET(static_cast<unsigned>(n), &taken);
    };
    for (int n = 0; !free(cpu) && n < CPU_SETSIZE; ++n) cpu = n;
    if (!free(cpu)) return false;
    CPU_SET(static_cast<unsigned>(cpu), &taken);
    poller->reserved = cpu;
    cpu_set_t only{};
    CPU_SET(static_cast<unsigned>(cpu), &only);
    if (int const tid = poller->tid.load(); tid != 0) sched_setaffinity(tid, sizeof only, &only);
  }
  if (CPU_COUNT(&taken) >= CPU_COUNT(&allowed_)) return false;
  placement_->reserve(taken);
  reserved_ = true;
  stats_.processors_reserved.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void Pollers::give_back() noexcept {
  std::lock_guard lock(reserve_mutex_);
  if (!reserved_.exchange(false)) return;
  placement_->reserve({});
}

// A poller's own affinity.
void Pollers::settle_down(Poller& self) noexcept {
  int const wanted = reserved_.load(std::memory_order_acquire) ? self.reserved.load(std::memory_order_relaxed) : -1;
  if (wanted == self.kept_to) return;
  self.kept_to = wanted;
  cpu_set_t only{};
  if (wanted >= 0) CPU_SET(static_cast<unsigned>(wanted), &only);
  sched_setaffinity(0, sizeof only, wanted >= 0 ? &only : &allowed_);
}

unsigned Pollers::wanted() const noexcept {
  unsigned const cores = std::max(1U, std::thread::hardware_concurrency());
  return count_ == kAuto ? std::clamp(cores / 4, 1U, 4U) : static_cast<unsigned>(count_);
}

void Pollers::wake() noexcept {
  {
    std::lock_guard lock(mutex_);
    if (active() || stopping_) return;
    start();
  }
  if (reserved_before_.load(std::memory_order_relaxed) && now_ns() < hot_until_ns_.load(std::memory_order_relaxed)) {
    reserve();
  }
}

void Pollers::start() noexcept {
  answered_at_wake_ = stats_.exitless_calls.load(std::memory_order_relaxed);
  window_calls_ = window_missed_ = 0;
  active_ = true;
  if (!pollers_.empty()) {
    active_.notify_all();
    return;
  }
  for (unsigned i = 0; i < wanted(); ++i) start_poller();
}

void Pollers::start_poller() {
  pollers_.push_back(std::make_unique<Poller>());
  Poller& poller = *pollers_.back();
  stats_.pollers_started.fetch_add(1, std::memory_order_relaxed);
  poller.thread = start_filtered([this, &poller] { poll(poller); });
}

void Pollers::poll(Poller& self) noexcept {
  sched_setaffinity(0, sizeof allowed_, &allowed_);  // not that of the guest thread that happened to start it
  PollerPriority priority;
  priority.begin();
  self.cpu = sched_getcpu();
  self.tid = gettid();
  auto idle_since = Clock::now();
  unsigned empty = 0, scanned = 0;
  bool idle = false;
  auto const patience = count_ == kAuto ? Clock::duration(kIdleBeforePark) : Clock::duration(kIdleBeforeParkFixed);
  while (!stopping_.load(std::memory_order_relaxed) && !self.retired.load(std::memory_order_relaxed)) {
    if (!active()) {
      priority.rest();
      active_.wait(false);
      priority.back(now_ns());
      idle = false;
      idle_since = Clock::now();
      empty = 0;
      continue;
    }
    settle_down(self);
    self.cpu.store(sched_getcpu(), std::memory_order_relaxed);
    priority.round(now_ns(), self.kept_to >= 0);
    Found const found = scan(self);
    if (++scanned % kScansPerWeighing == 0) weigh(kWeighNs);
    if (found == Found::kAnswered) {
      empty = 0;
      idle = false;
      continue;
    }
    // What the guest waits for is somebody else's to do, perhaps on this processor.
    if (found == Found::kWaiting || idle) {
      priority.give_way();
    } else {
      pause_cpu();
    }
    if (++empty % kScansPerClock != 0) continue;
    auto const now = Clock::now();
    if (empty == kScansPerClock) idle_since = now;
    idle = now - idle_since > kIdleBeforeYield;
    if (now - idle_since > patience) park();
  }
  self.ended.store(true, std::memory_order_release);
}

Pollers::Found Pollers::scan(Poller& self) noexcept {
  Found most = Found::kNothing;
  unsigned threads = 0;
  for (size_t word = 0; word < inside_.size(); ++word) {
    for (uint64_t bits = inside_[word].load(std::memory_order_acquire); bits != 0; bits &= bits - 1) {
      ++threads;
      most = std::max(most, serve(seats_[word * 64 + static_cast<size_t>(std::countr_zero(bits))], self));
    }
  }
  scans_.fetch_add(1, std::memory_order_relaxed);
  threads_seen_.fetch_add(threads, std::memory_order_relaxed);
  return most;
}

Pollers::Found Pollers::serve(Seat& seat, Poller& self) noexcept {
  Mailbox& mailbox = *seat.mailbox_;
  // A glance without taking the seat: these two may be old, what is decided by them is not.
  uint64_t const glance = mailbox.posted.load(std::memory_order_acquire);
  if (glance == mailbox.done.load(std::memory_order_relaxed)) return Found::kNothing;
  if (seat.phase_.load(std::memory_order_relaxed) != Seat::kInside) return Found::kNothing;
  uint32_t expected = Seat::kInside;
  if (!seat.phase_.compare_exchange_strong(expected, Seat::kTaken, std::memory_order_acquire)) return Found::kNothing;
  bool answered = false, waiting = false;
  uint64_t const posted = mailbox.posted.load(std::memory_order_acquire);
  bool const again = seat.seen_ == posted;
  if (posted == seat.refused_) {
    mailbox.spins.store(0, std::memory_order_relaxed);  // again: the guest's own count may have overwritten it
  } else if (posted == seat.answered_ + 1) {
    seat.seen_ = posted;
    SyscallArgs const call = posted_call(mailbox);
    if (mailbox.check.load(std::memory_order_relaxed) != posted_check(call, seat.answered_)) {
      if (!again) stats_.mailbox_damaged.fetch_add(1, std::memory_order_relaxed);
      mailbox.spins.store(0, std::memory_order_relaxed);  // by exit, from the registers
    } else {
      self.serving_since_ns.store(now_ns(), std::memory_order_relaxed);
      CallServer::Answer const answer = seat.server_->serve_posted(call, mailbox.site.load(std::memory_order_relaxed));
      self.serving_since_ns.store(0, std::memory_order_relaxed);
      answered = answer.kind == CallServer::Answer::kDone || answer.kind == CallServer::Answer::kDoneLeave;
      if (answered) {
        seat.answered_ = posted;
        seat.result_ = answer.result;
        if (seat.wait_scans_ != 0 && seat.patience_ < kMostPatience) ++seat.patience_;
        seat.wait_scans_ = 0;
        if (answer.kind == CallServer::Answer::kDone) publish_answer(mailbox, posted, answer.result);
      } else if (answer.kind == CallServer::Answer::kLeave) {
        seat.refused_ = posted;
        mailbox.spins.store(0, std::memory_order_relaxed);
      } else {
        waiting = true;
        ++seat.wait_scans_;
        if (seat.patience_ < 0 && ++seat.impatient_ % kImpatientPosts != 0) {
          mailbox.spins.store(0, std::memory_order_relaxed);
        }
      }
    }
  }
  seat.phase_.store(Seat::kInside, std::memory_order_release);
  seat.phase_.notify_one();
  if (!answered) return waiting ? Found::kWaiting : Found::kNothing;
  if (window_calls_.fetch_add(1, std::memory_order_relaxed) + 1 >= kWindow) {
    uint32_t const in_vain = window_missed_.exchange(0, std::memory_order_relaxed);
    window_calls_.store(0, std::memory_order_relaxed);
    if (in_vain < kWindow / 16) backoff_ns_ = backoff_ns_.load() / 2;
  }
  return Found::kAnswered;
}

void Pollers::park() noexcept {
  if (stats_.exitless_calls.load(std::memory_order_relaxed) - answered_at_wake_ >= kGoodTime) {
    hot_until_ns_ = now_ns() + kHotNs;
  }
  turn_off();
}

// Guests post no more from their next call on; those that have posted leave, or are served by the next wake.
void Pollers::turn_off() noexcept {
  reserved_before_ = reserved_.load();
  active_.store(false);
  give_back();
  if (stopping_.load()) {  // a poller that has not yet woken to end must still see that it is to wake
    active_.store(true);
    active_.notify_all();
  }
  for (size_t word = 0; word < inside_.size(); ++word) {
    for (uint64_t bits = inside_[word].load(std::memory_order_acquire); bits != 0; bits &= bits - 1) {
      Mailbox& mailbox = *seats_[word * 64 + static_cast<size_t>(std::countr_zero(bits))].mailbox_;
      mailbox.enabled.store(0, std::memory_order_relaxed);
      mailbox.spins.store(0, std::memory_order_relaxed);
    }
  }
}

// A poller that has been in one handler for long cannot serve the others: another takes its place, and it ends when the
// handler does.
void Pollers::replace_stuck() noexcept {
  int64_t const limit = now_ns() - std::chrono::nanoseconds(kStuck).count();
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock || stopping_) return;
  std::erase_if(pollers_, [](auto const& poller) {
    if (!poller->ended.load(std::memory_order_acquire)) return false;
    poller->thread.join();
    return true;
  });
  for (size_t i = 0; i < pollers_.size(); ++i) {
    int64_t const since = pollers_[i]->serving_since_ns.load(std::memory_order_relaxed);
    if (since == 0 || since > limit || pollers_[i]->retired.exchange(true)) continue;
    stats_.pollers_replaced.fetch_add(1, std::memory_order_relaxed);
    start_poller();
  }
}

}  // namespace vmm
