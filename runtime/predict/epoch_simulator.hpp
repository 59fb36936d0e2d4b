// What a policy of epochs costs and loses, played through on recordings: no replication runs here. Its model:
//
// - a checkpoint stops the guest for the time of its CheckpointCost; the next epoch begins then;
// - strict mode holds output until the checkpoint after it: a response waits for the rest of its epoch, half of it on
//   average, and for the checkpoint. Relaxed mode lets it out: it waits only if it falls into a stop, for half of it;
// - a failure loses what was done since the last checkpoint that was finished. As the first failed sample says only in
//   which second it failed, the loss is the mean over that second;
// - a forecast is known when its sample was taken, so an epoch that began earlier runs to its end.
#pragma once

#include "runtime/predict/epoch_policy.hpp"

namespace vmsrs::predict {

// Seconds that a checkpoint stops the guest: always `fixed`, and for what an epoch of e seconds dirtied `share` * e.
struct CheckpointCost {
  double fixed = 0.001, share = 0.01;

  double of(double epoch) const { return fixed + share * epoch; }
};

struct EpochRun {
  double seconds = 0;  // of health and trouble: what lies before the failure
  double healthy_seconds = 0;
  double checkpoints = 0, healthy_checkpoints = 0;
  double stopped = 0;  // seconds that the guest was stopped
  // Sums over time, in seconds of delay times seconds.
  double strict_delay = 0, relaxed_delay = 0, healthy_strict_delay = 0, healthy_relaxed_delay = 0;
  double healthy_age = 0;       // age of the last checkpoint, in seconds times seconds: what a sudden kill would lose
  std::vector<double> lost;     // seconds of work, of each failure
  std::vector<bool> predicted;  // of each failure: was the alarm up before

  void add(EpochRun const& other);
};

// `forecasts`: one for each sample, as Predictor::observe gave it. What is not labelled counts as healthy.
EpochRun simulate(EpochPolicy const& policy, CheckpointCost const& cost, Recording const& recording,
                  std::vector<Forecast> const& forecasts);

}  // namespace vmsrs::predict
