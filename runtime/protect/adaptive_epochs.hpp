// How long epochs are, by what is forecast for the guest (paper 001, section 3.2): this process's use of CPU, memory,
// network and disk is sampled each second, a trained model says how likely trouble is, and a policy makes an epoch's
// longest time of that. A thread of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/predict/epoch_policy.hpp"
#include "runtime/predict/metrics_sampler.hpp"
#include "vmm/error.hpp"

namespace vmsrs::runtime::protect {

struct AdaptiveConfig {
  std::string model;  // a file of `vmsrs predict train`; empty: epochs are as long as they are
  predict::EpochPolicy policy;
  std::chrono::milliseconds every{1000};
};

class AdaptiveEpochs {
 public:
  struct Setting {
    std::chrono::milliseconds longest{0};
    double trouble = 0;
    bool alarm = false;
    bool changed = false;  // another length than the one before
  };
  // Fails where the model cannot be read. `set` is called after each sample, on this object's thread.
  static vmm::Result<std::unique_ptr<AdaptiveEpochs>> start(AdaptiveConfig config,
                                                            std::function<void(Setting const&)> set);
  ~AdaptiveEpochs();
  AdaptiveEpochs(AdaptiveEpochs const&) = delete;
  AdaptiveEpochs& operator=(AdaptiveEpochs const&) = delete;

 private:
  AdaptiveEpochs(AdaptiveConfig config, predict::Model model, predict::MetricsSampler sampler,
                 std::function<void(Setting const&)> set);
  void follow();

  AdaptiveConfig config_;
  predict::Predictor predictor_;
  predict::MetricsSampler sampler_;
  std::function<void(Setting const&)> set_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace vmsrs::runtime::protect
