// Metrics to one symbol (paper 001, section 2.2): each metric is low, usual or high against its own history, and the
// four levels are one number.
#pragma once

#include <array>
#include <vector>

#include "runtime/predict/recording.hpp"

namespace vmsrs::predict {

inline constexpr int kMostLevels = 3;
using Levels = std::array<int, kMetrics>;

// The paper's formula, for levels from 0 on (with levels from 1 on numbers would be left out and the last ones would be
// out of range): N(C, M, N, D) = C f(M) f(N) f(D) + M f(N) f(D) + N f(D) + D, where f counts a metric's levels.
int index_of(Levels const& levels, Levels const& counts);
int indices(Levels const& counts);  // how many there are: the product

// What a metric is judged by. In units of the metric; low and high in standard deviations, not negative.
struct Scale {
  int levels = 3;            // 2: below the mean or not; 3: low, usual, high
  double mean = 0;           // of healthy samples
  double deviation = 0;      // of healthy samples from the running mean
  double low = 1, high = 1;  // 3 levels: low is below mean - low * deviation, high above mean + high * deviation
};

// The history forgets: the mean follows the samples with a weight of 1/kWindow each, and begins as if `mean` had been
// seen kSeed times. So slow growth that is nobody's fault becomes usual, and a leak does not, if it adds more than
// `high` deviations in kWindow samples.
class Discretiser {
 public:
  static constexpr double kWindow = 300, kSeed = 20;

  explicit Discretiser(std::array<Scale, kMetrics> const& scales);

  int symbols() const { return indices(counts_); }
  Levels levels(Sample const& sample) const;
  int symbol(Sample const& sample) const { return index_of(levels(sample), counts_); }
  // Takes a sample into the history. `healthy` (0 … 1) is how sure one is that it was healthy: trouble must not become
  // usual.
  void learn(Sample const& sample, double healthy);
  double mean(int metric) const { return means_[static_cast<size_t>(metric)]; }

 private:
  std::array<Scale, kMetrics> scales_;
  Levels counts_;
  std::array<double, kMetrics> means_;
  double seen_ = kSeed;
};

// Means and deviations of what is labelled normal (of everything, where nothing is), and the `low` and `high` that
// tell most about the labels: of a small grid, those with the greatest mutual information between level and state.
// `levels`: of each metric, 2 or 3. Fails without samples.
Result<std::array<Scale, kMetrics>> fit_scales(std::vector<Recording> const& recordings, Levels const& levels);

// A recording as the model sees it; the history learns from what is labelled normal or not at all.
std::vector<int> symbols_of(Recording const& recording, std::array<Scale, kMetrics> const& scales);

}  // namespace vmsrs::predict
