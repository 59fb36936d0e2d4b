#include "runtime/protect/adaptive_epochs.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <utility>

#include "runtime/replicate/quiet_thread.hpp"

namespace vmsrs::runtime::protect {
namespace {

constexpr auto kEvery = std::chrono::seconds(1);  // as `vmsrs predict record` samples, by default

}  // namespace

vmm::Result<std::unique_ptr<AdaptiveEpochs>> AdaptiveEpochs::start(AdaptiveConfig config,
                                                                   std::function<void(Setting const&)> set) {
  auto sampler = predict::MetricsSampler::open(getpid());
  if (!sampler) return vmm::fail(vmm::Errc::kHostCall, sampler.error().message, sampler.error().sys_errno);
  return std::unique_ptr<AdaptiveEpochs>(new AdaptiveEpochs(std::move(config), std::move(*sampler), std::move(set)));
}

AdaptiveEpochs::AdaptiveEpochs(AdaptiveConfig config, predict::MetricsSampler sampler,
                               std::function<void(Setting const&)> set)
    : policy_(config.policy),
      predictor_(std::move(*config.model)),
      sampler_(std::move(sampler)),
      set_(std::move(set)),
      thread_(replicate::quiet_thread([this] { follow(); })) {}

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
    next += kEvery;
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
    setting.longest = std::chrono::milliseconds(std::lround(predict::epoch_length(policy_, forecast) * 1000));
    setting.trouble = forecast.trouble;
    setting.changed = setting.longest != std::exchange(last, setting.longest);
    set_(setting);
  }
}

}  // namespace vmsrs::runtime::protect
