#include "runtime/rescue/fault_strikes.hpp"

#include <chrono>
#include <csignal>
#include <random>
#include <vector>

#include "runtime/rescue/landing_pad.hpp"

namespace vmsrs::runtime {

FaultStrikes::FaultStrikes(RescueOptions const& options) : options_(options), left_(options.strikes) {}

void FaultStrikes::start(vmm::Process& process) {
  process_ = &process;
  if (options_.strike_every_us != 0 && left_ != 0) thread_ = std::thread([this] { run(); });
}

void FaultStrikes::stop() {
  {
    std::lock_guard const lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

void FaultStrikes::after_call(vmm::Thread& thread, uint64_t nr) {
  if (options_.strike_call < 0 || nr != static_cast<uint64_t>(options_.strike_call)) return;
  if (calls_.fetch_add(1) % options_.strike_each != options_.strike_each - 1) return;
  if (left_.load() == 0) return;
  thread.force_fault(SIGSEGV);
}

void FaultStrikes::counted() {
  uint64_t left = left_.load();
  while (left != 0 && !left_.compare_exchange_weak(left, left - 1)) {
  }
}

// Only a thread that is in the guest at that moment counts; the others would be struck at the end of a call.
void FaultStrikes::run() {
  std::mt19937_64 random(options_.strike_seed);
  std::unique_lock lock(mutex_);
  while (left_.load() != 0) {
    std::uniform_int_distribution<uint64_t> wait(options_.strike_every_us / 2, options_.strike_every_us * 3 / 2);
    if (wake_.wait_for(lock, std::chrono::microseconds(wait(random)), [this] { return stopping_; })) return;
    std::vector<int> tids;
    process_->for_each_thread([&](vmm::Thread& thread) {
      auto const* pad = static_cast<LandingPad const*>(thread.rescue_data);
      if (pad != nullptr && pad->serving() && thread.state() == vmm::RunState::kGuest) tids.push_back(thread.tid());
    });
    if (tids.empty()) continue;
    process_->with_thread(tids[random() % tids.size()], [&](vmm::Thread& thread) { thread.force_fault(SIGSEGV); });
  }
}

}  // namespace vmsrs::runtime
