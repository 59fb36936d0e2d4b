#include "runtime/protect/adaptive_epochs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdio>

namespace vmsrs::runtime::protect {
namespace {

vmm::Error as_option_error(predict::Error const& error) {
  return {vmm::Errc::kBadOption, error.message, error.sys_errno};
}

}  // namespace

vmm::Result<std::unique_ptr<AdaptiveEpochs>> AdaptiveEpochs::start(AdaptiveConfig config,
                                                                   std::function<void(Setting const&)> set) {
  auto model = predict::read_model(config.model);
  if (!model) return tl::unexpected(as_option_error(model.error()));
  auto sampler = predict::MetricsSampler::open(getpid());
  if (!sampler) return tl::unexpected(as_option_error(sampler.error()));
  return std::unique_ptr<AdaptiveEpochs>(
      new AdaptiveEpochs(std::move(config), std::move(*model), std::move(*sampler), std::move(set)));
}

AdaptiveEpochs::AdaptiveEpochs(AdaptiveConfig config, predict::Model model, predict::MetricsSampler sampler,
                               std::function<void(Setting const&)> set)
    : config_(std::move(config)), predictor_(std::move(model)), sampler_(std::move(sampler)), set_(std::move(set)) {
  sigset_t all, before;  // the guest's signals are not this thread's business
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { follow(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

AdaptiveEpochs::~AdaptiveEpochs() {
  {
    std::lock_guard const guard(mutex_);
    stop_ = true;
    wake_.notify_all();
  }
  thread_.join();
}

void AdaptiveEpochs::follow() {
  auto next = std::chrono::steady_clock::now();
  std::chrono::milliseconds last{-1};
  for (;;) {
    next += config_.every;
    {
      std::unique_lock lock(mutex_);
      if (wake_.wait_until(lock, next, [this] { return stop_; })) return;
    }
    auto const sample = sampler_.sample();
    if (!sample || !*sample) {
      fmt::print(stderr, "vmsrs: adaptive epochs: no sample; they stay as they are\n");
      return;
    }
    predict::Forecast const forecast = predictor_.observe(**sample);
    Setting setting;
    setting.longest = std::chrono::milliseconds(std::lround(predict::epoch_length(config_.policy, forecast) * 1000));
    setting.trouble = forecast.trouble;
    setting.alarm = forecast.alarm;
    setting.changed = setting.longest != std::exchange(last, setting.longest);
    set_(setting);
  }
}

}  // namespace vmsrs::runtime::protect
