// What libsrs asks of the host (libsrs/include/srs/abi.h, enum srs_hypercall).
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "runtime/recovery.hpp"
#include "runtime/store/store.hpp"

namespace vmsrs::runtime {

static_assert(SRS_HC_BASE == vmm::kHypercallBase && SRS_HC_END <= vmm::kHypercallEnd);

namespace {
constexpr uint64_t kActionsAtOnce = 64;
constexpr size_t kNotWholeMost = 64;
}  // namespace

int64_t Recovery::store_result(store::Result<void> const& result) {
  if (result) return 0;
  if (result.error().code == store::Code::gone || result.error().code == store::Code::channel) {
    process_->broken(result.error().message);
    return -EIO;
  }
  return -EINVAL;
}

int64_t Recovery::on_hypercall(vmm::Thread& thread, vmm::SyscallArgs const& args) {
  if (!options_.recovery) return -ENOSYS;
  if (thread.view() != nullptr) return run_hypercall(thread, *state_of(thread), args);
  if (rescue_) {
    if (auto const answer = rescue_->on_hypercall(thread, args)) return *answer;
  }
  if (args.nr == SRS_HC_ATTACH) return attach(thread, vmm::GuestAddr(args.a[0]));
  if (!attached_) return -EINVAL;
  if (args.nr == SRS_HC_THREAD) return new_slot(thread);
  ThreadState* state = state_of(thread);
  if (state == nullptr) return -EINVAL;
  switch (args.nr) {
    case SRS_HC_DRAIN: {
      int64_t const r = store_result(store_->drain(state->slot));
      bool const committed = slots_.host(state->slot)->depth == 0;
      bool const waits = !state->held.empty() || state->effects.keeps_closed();
      return r == 0 && committed && waits ? let_output_go(thread, *state) : r;
    }
    case SRS_HC_PROFILE:
      return profile(args);
    case SRS_HC_RUN:
      return run_hypercall(thread, *state, args);
    case SRS_HC_FAULT: {
      if (state->run != nullptr) return run_hypercall(thread, *state, args);
      Blow blow;
      blow.by_call = true;
      auto const kind = args.a[0];
      blow.kind =
          kind > SRS_FAULT_NONE && kind < SRS_FAULT_KINDS ? static_cast<enum srs_fault_kind>(kind) : SRS_FAULT_REPORTED;
      blow.fault.signal = SIGABRT;
      if (args.a[1] != 0) (void)thread.memory().read_string(vmm::GuestAddr(args.a[1]), blow.why, 128);
      return suppress(thread, blow) ? vmm::kRegistersSet : -ESRCH;
    }
    case SRS_HC_LANDED:
      return landed(thread, vmm::GuestAddr(args.a[0]), args.a[1]);
    case SRS_HC_STORE:
      return store_result(store_->store_word(state->slot, args.a[0], static_cast<uint8_t>(args.a[2]), args.a[1]));
    case SRS_HC_SCOPE: {
      srs_record const record{srs_what(args.a[0], 0, 0), args.a[1], args.a[2], 0};
      return store_result(store_->note(state->slot, record));
    }
    case SRS_HC_RECORD:
      return journal_record(*state, thread, vmm::GuestAddr(args.a[0]));
    case SRS_HC_FETCH_OP:
      return strict_fetch_op(thread, *state, args);
    case SRS_HC_LOCK_CYCLE:
      lock_cycles_ += 1;
      state->lock_cycles += 1;
      return 0;
    case SRS_HC_GATE:
      if (state->forced_kind != SRS_FAULT_NONE) thread.force_fault(SIGXCPU);
      return 0;
    case SRS_HC_SYNC: {
      std::unique_lock lock(abort_mutex_);
      restorer_.sweep(UINT64_MAX);
      lock.unlock();
      tell_finished();
      return 0;
    }
    case SRS_HC_FILE:
      return set_file_mode(thread, static_cast<int>(args.a[0]), args.a[1]);
    case SRS_HC_LOGGED:
      return logged_range(args);
    case SRS_HC_NOT_WHOLE:
      return not_whole(thread, vmm::GuestAddr(args.a[0]));
    case SRS_HC_FAULT_INFO:
      return thread.memory().write(vmm::GuestAddr(args.a[0]), state->last_fault) ? 0 : -EFAULT;
    default:
      return -ENOSYS;
  }
}

// Those that only speak to the store; the others set registers, force a fault or belong to the thread's own host
// thread.
bool Recovery::exitless_hypercall(uint64_t nr) const {
  return options_.recovery && (nr == SRS_HC_DRAIN || nr == SRS_HC_STORE || nr == SRS_HC_SCOPE || nr == SRS_HC_RECORD ||
                               nr == SRS_HC_FETCH_OP);
}

int64_t Recovery::attach(vmm::Thread& thread, vmm::GuestAddr at) {
  srs_attach info{};
  if (!thread.memory().read(at, info)) return -EFAULT;
  if (info.version != SRS_ABI_VERSION || info.size != sizeof info) return -EPROTO;
  std::lock_guard lock(attach_mutex_);
  info.tag_base = memory_.tag_base();
  info.address_mask = memory_.address_mask();
  info.store_mode = options_.store;
  info.isolation = options_.isolation;
  info.policy = options_.policy;
  info.scope_thread = options_.scope_thread ? 1 : 0;
  info.slots = slots_.base();
  if (!thread.memory().write(at, info)) return -EFAULT;
  if (attached_) return 0;  // a second copy of libsrs in the process: both speak of the same slots
  landing_pad_ = info.landing_pad;
  unwind_pad_ = info.unwind_pad;
  run_pad_ = info.run_pad;
  abort_message_ = info.abort_message;
  attached_ = true;
  if (options_.policy == SRS_RUN) (void)process_->view();  // now rather than at the first fault; where it fails, then
  start_watch();
  return 0;
}

void Recovery::start_watch() {
  watch_.start(
      slots_,
      [this](uint64_t slot, uint64_t owner) {
        process_->for_each_thread([&](vmm::Thread& other) {
          ThreadState* state = state_of(other);
          if (state == nullptr || state->slot != slot) return;
          state->forced_owner = owner;
          state->forced_kind = SRS_FAULT_DEADLINE;
          other.force_fault(SIGXCPU);
        });
      },
      [this](uint64_t now) {
        strike_again();
        strike_runs(now);
        if (shadowed_) (void)store_->shadow_renew();
        std::unique_lock lock(abort_mutex_, std::try_to_lock);
        if (!lock || !restorer_.waiting()) return;
        restorer_.sweep(now);
        lock.unlock();
        tell_finished();
      });
}

int64_t Recovery::new_slot(vmm::Thread& thread) {
  if (ThreadState const* state = state_of(thread)) return static_cast<int64_t>(slots_.address(state->slot));
  uint64_t const index = slots_.take(thread.tid());
  if (index == 0) return -EAGAIN;
  store::SlotConfig const config{index, slots_.address(index), slots_.ring(index), kRingRecords, slots_.key(index)};
  if (int64_t const r = store_result(store_->attach_slot(config)); r != 0) {
    slots_.give_back(index);
    return r;
  }
  auto state = std::make_unique<ThreadState>();
  state->slot = index;
  // Under the process's thread list: others read it there.
  process_->with_thread(thread.tid(), [&](vmm::Thread& t) { t.user_data = state.release(); });
  return static_cast<int64_t>(slots_.address(index));
}

void Recovery::on_thread_end(vmm::Thread& thread) {
  if (rescue_) Rescue::on_thread_end(thread);
  if (ThreadState* ending = state_of(thread)) {
    if (ending->run != nullptr) end_run(thread, *ending, "the process ended");
    landing_over(thread, *ending);
  }
  std::unique_ptr<ThreadState> state;
  process_->with_thread(thread.tid(), [&](vmm::Thread& t) {
    state.reset(state_of(t));
    t.user_data = nullptr;
  });
  if (state == nullptr) return;
  {
    std::lock_guard lock(abort_mutex_);
    (void)store_->detach_slot(state->slot);
  }
  slots_.give_back(state->slot);
}

int64_t Recovery::profile(vmm::SyscallArgs const& args) {
  vmm::GuestAddr const start(args.a[0]);
  if (args.a[1] == 0 || !memory_.contains(start, args.a[1])) return -EFAULT;
  std::lock_guard lock(profiled_mutex_);
  profiled_.push_back({start, args.a[1]});
  return 0;
}

int64_t Recovery::logged_range(vmm::SyscallArgs const& args) {
  if (args.a[1] == 0 || !memory_.contains(vmm::GuestAddr(args.a[0]), args.a[1])) return -EFAULT;
  int64_t const r = store_result(store_->shadow_add(args.a[0], args.a[1], options_.store == SRS_STORE_STRICT));
  if (r == 0) shadowed_ = true;
  return r == -EINVAL ? -ENOMEM : r;
}

int64_t Recovery::landed(vmm::Thread& thread, vmm::GuestAddr to, uint64_t count) {
  ThreadState& state = *state_of(thread);
  state.landing = false;  // slot->critical keeps deadlines off from here on
  if (count == 0) {
    landing_over(thread, state);
    return 0;
  }
  uint64_t const n = std::min({count, kActionsAtOnce, static_cast<uint64_t>(state.actions.size())});
  if (n == 0) return 0;
  if (!thread.memory().write(to, state.actions.data(), n * sizeof(srs_action))) return -EFAULT;
  state.actions.erase(state.actions.begin(), state.actions.begin() + static_cast<long>(n));
  return static_cast<int64_t>(n);
}

// The landing code has found something that it cannot put right.
int64_t Recovery::not_whole(vmm::Thread& thread, vmm::GuestAddr at) {
  ThreadState const& state = *state_of(thread);
  std::string text;
  if (thread.memory().read_string(at, text, 128) != 0) return -EFAULT;
  if (state.landing_fault == 0) {
    reporter_->finding(thread.tid(), text);
    return 0;
  }
  std::lock_guard lock(abort_mutex_);
  restorer_.amend(state.landing_fault, [&](FaultReport& report) {
    if (report.not_whole.size() < kNotWholeMost) report.not_whole.push_back(std::move(text));
  });
  return 0;
}

int64_t Recovery::strict_fetch_op(vmm::Thread& thread, ThreadState& state, vmm::SyscallArgs const& args) {
  auto const [address, operand, shape, old_at, unused1, unused2] = args.a;
  uint64_t old = 0;
  if (!thread.memory().read(vmm::GuestAddr(old_at), old)) return -EFAULT;
  auto const result =
      store_->fetch_op(state.slot, address, static_cast<srs_fetch_op>(shape >> 8), operand, shape & 0xff, old);
  if (!result) return store_result(tl::unexpected(result.error()));
  return thread.memory().write(vmm::GuestAddr(old_at), *result) ? 0 : -EFAULT;
}

int64_t Recovery::journal_record(ThreadState& state, vmm::Thread& thread, vmm::GuestAddr at) {
  srs_record record{};
  if (!thread.memory().read(at, record)) return -EFAULT;
  return store_result(store_->note(state.slot, record));
}

}  // namespace vmsrs::runtime
