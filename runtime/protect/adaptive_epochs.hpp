// How long epochs are, by what is forecast for the guest (paper 001, section 3.2): this process's use of CPU, memory,
// network and disk is sampled each second, a trained model says how likely trouble is, and a policy makes an epoch's
// longest time of that. A thread of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "runtime/predict/epoch_policy.hpp"
#include "runtime/predict/metrics_sampler.hpp"
#include "vmm/error.hpp"

namespace vmsrs::runtime::protect {

struct AdaptiveConfig {
  std::optional<predict::Model> model;  // nothing: epochs are as long as they are
  predict::EpochPolicy policy;
};

class AdaptiveEpochs {
 public:
  struct Setting {
    std::chrono::milliseconds longest{0};
    double trouble = 0;
    bool changed = false;  // another length than the one before
  };
  // With a model. Fails where this process cannot be sampled. `set` is called after each sample, on this object's
  // thread.
  static vmm::Result<std::unique_ptr<AdaptiveEpochs>> start(AdaptiveConfig config,
                                                            std::function<void(Setting const&)> set);
  ~AdaptiveEpochs();
  AdaptiveEpochs(AdaptiveEpochs const&) = delete;
  AdaptiveEpochs& operator=(AdaptiveEpochs const&) = delete;

 private:
  AdaptiveEpochs(AdaptiveConfig config, predict::MetricsSampler sampler, std::function<void(Setting const&)> set);
  void follow();

  predict::EpochPolicy policy_;
  predict::Predictor predictor_;
  predict::MetricsSampler sampler_;
  std::function<void(Setting const&)> set_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace vmsrs::runtime::protect
