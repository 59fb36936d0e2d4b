#include "runtime/protect/guest_watch.hpp"

#include "runtime/detect/guest_look.hpp"
#include "runtime/replicate/quiet_thread.hpp"

namespace vmsrs::runtime::protect {
namespace {

constexpr auto kLookEach = std::chrono::milliseconds(250);

}  // namespace

GuestWatch::GuestWatch(vmm::Process& process, std::chrono::milliseconds stands,
                       std::function<void(std::string const&)> stuck)
    : process_(process),
      stands_(stands),
      stuck_(std::move(stuck)),
      thread_(replicate::quiet_thread([this] { watch(); })) {}

GuestWatch::~GuestWatch() {
  {
    std::lock_guard const guard(mutex_);
    stop_ = true;
    wake_.notify_all();
  }
  thread_.join();
}

void GuestWatch::watch() {
  using Clock = std::chrono::steady_clock;
  detect::WaitGraph graph;
  auto last = Clock::now(), since = last;
  std::unique_lock lock(mutex_);
  while (!stop_) {
    wake_.wait_for(lock, kLookEach, [this] { return stop_; });
    if (stop_) return;
    auto const now = Clock::now();
    graph.look(detect::look_at_threads(process_),
               static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now - last).count()));
    last = now;
    if (graph.proven_cycle().empty()) {
      since = now;
    } else if (now - since >= stands_) {
      stuck_(graph.proven_cycle());
      return;
    }
  }
}

}  // namespace vmsrs::runtime::protect
