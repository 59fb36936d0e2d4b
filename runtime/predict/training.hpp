// From labelled recordings to a model.
#pragma once

#include "runtime/predict/model.hpp"

namespace vmsrs::predict {

enum class Start {
  kLabels,  // parameters counted from the labels; Baum-Welch goes on from there
  kRandom,  // the paper's: random parameters; of `restarts` the likeliest is kept
};

struct TrainingOptions {
  Levels levels{3, 3, 3, 3};
  Start start = Start::kLabels;
  int restarts = 10;
  uint64_t seed = 1;
  double stop = 0.01;
  int most_rounds = 500;
  double prior_weight = 1;  // see TrainOptions: keeps symbols possible that were not seen
};

struct TrainingOutcome {
  Model model;
  Trained trained;
  size_t samples = 0;
};

// Learns the scales, the hidden Markov model and the meaning of its states, and picks the threshold with the best
// F-measure on the recordings. Each recording is a sequence of its own. Fails if no sample is labelled normal, or none
// abnormal or failed: then no state could be named.
Result<TrainingOutcome> train_model(std::vector<Recording> const& recordings, TrainingOptions const& options);

// Row i: how the samples are labelled at which the model is in state i, weighted by how surely it is; samples with both
// labels count. A state that is seen nowhere means what the recordings are on average.
Result<Eigen::MatrixXd> meaning_of(Hmm const& hmm, std::vector<Recording> const& recordings,
                                   std::vector<Symbols> const& sequences);

}  // namespace vmsrs::predict
