// How long an epoch of replication is to be: from checkpoint to checkpoint (paper 001, section 3.2). Pure functions of
// the forecast; who replicates asks before each epoch.
#pragma once

#include <string>
#include <variant>

#include "runtime/predict/predictor.hpp"

namespace vmsrs::predict {

// Seconds between checkpoints that cost the least work, with `cost` seconds for a checkpoint and failures `mtbf`
// seconds apart on average. Both positive.
double young_interval(double cost, double mtbf);  // sqrt(2 C M)
double daly_interval(double cost, double mtbf);   // Daly's expansion of higher order; M if C >= 2 M

struct FixedEpoch {
  double seconds = 0.025;
};
struct YoungDalyEpoch {
  double cost = 0.001, mtbf = 86400;
};
// The paper's: short epochs when trouble is likelier than `threshold`, long ones otherwise.
struct ThresholdEpoch {
  double shortest = 0.025, longest = 1, threshold = 0.5;
};
// Young's and Daly's interval for the mean time to failure that the forecast makes likely, within bounds:
// 1 / M = P(trouble) / `trouble_mtbf` + (1 - P(trouble)) / `healthy_mtbf`.
struct HazardEpoch {
  double shortest = 0.025, longest = 1, cost = 0.001, healthy_mtbf = 86400, trouble_mtbf = 30;
};
using EpochPolicy = std::variant<FixedEpoch, YoungDalyEpoch, ThresholdEpoch, HazardEpoch>;

std::string name_of(EpochPolicy const& policy);

// Seconds until the next checkpoint.
double epoch_length(EpochPolicy const& policy, Forecast const& forecast);

}  // namespace vmsrs::predict
