#include "runtime/predict/discretiser.hpp"

#include <algorithm>
#include <cmath>
#include <map>

namespace vmsrs::predict {
namespace {

constexpr std::array<double, 9> kWidths{0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6};

double healthy(Sample const& sample) {
  return !sample.health || sample.health == Health::kNormal ? 1 : 0;
}

int level(Scale const& scale, double mean, double value) {
  if (scale.levels == 2) return value < mean ? 0 : 1;
  if (value < mean - scale.low * scale.deviation) return 0;
  return value > mean + scale.high * scale.deviation ? 2 : 1;
}

// A sample's distance from the running mean, in deviations, and the state that it is labelled with.
struct Placed {
  double distance;
  int label;
};

int label_of(Sample const& sample) {
  int const health = sample.health ? static_cast<int>(*sample.health) : kHealths;
  int const load = sample.load ? static_cast<int>(*sample.load) : kLoads;
  return health * (kLoads + 1) + load;
}

double information(std::vector<Placed> const& placed, double low, double high) {
  constexpr int kLabels = (kHealths + 1) * (kLoads + 1);
  std::array<std::array<double, kLabels>, kMostLevels> joint{};
  std::array<double, kMostLevels> of_level{};
  std::array<double, kLabels> of_label{};
  double const one = 1 / static_cast<double>(placed.size());
  for (Placed const& p : placed) {
    size_t const at = p.distance < -low ? 0 : p.distance > high ? 2 : 1;
    auto const label = static_cast<size_t>(p.label);
    joint[at][label] += one;
    of_level[at] += one;
    of_label[label] += one;
  }
  double sum = 0;
  for (size_t i = 0; i < joint.size(); ++i) {
    for (size_t j = 0; j < joint[i].size(); ++j) {
      if (joint[i][j] > 0) sum += joint[i][j] * std::log(joint[i][j] / (of_level[i] * of_label[j]));
    }
  }
  return sum;
}

}  // namespace

int index_of(Levels const& levels, Levels const& counts) {
  int index = 0;
  for (size_t m = 0; m < kMetrics; ++m) index = index * counts[m] + levels[m];
  return index;
}

int indices(Levels const& counts) {
  int product = 1;
  for (int const count : counts) product *= count;
  return product;
}

Discretiser::Discretiser(std::array<Scale, kMetrics> const& scales) : scales_(scales) {
  for (size_t m = 0; m < kMetrics; ++m) {
    counts_[m] = scales[m].levels;
    means_[m] = scales[m].mean;
  }
}

Levels Discretiser::levels(Sample const& sample) const {
  Levels result;
  for (size_t m = 0; m < kMetrics; ++m) result[m] = level(scales_[m], means_[m], sample.metrics[m]);
  return result;
}

void Discretiser::learn(Sample const& sample, double healthy) {
  seen_ = std::min(seen_ + healthy, kWindow);
  for (size_t m = 0; m < kMetrics; ++m) means_[m] += healthy / seen_ * (sample.metrics[m] - means_[m]);
}

Result<std::array<Scale, kMetrics>> fit_scales(std::vector<Recording> const& recordings, Levels const& levels) {
  std::array<double, kMetrics> sums{};
  double count = 0;
  for (Recording const& recording : recordings) {
    for (Sample const& sample : recording.samples) {
      if (healthy(sample) == 0) continue;
      ++count;
      for (size_t m = 0; m < kMetrics; ++m) sums[m] += sample.metrics[m];
    }
  }
  if (count == 0) return fail("no sample is labelled normal: there is nothing that is usual");
  std::array<Scale, kMetrics> scales;
  for (size_t m = 0; m < kMetrics; ++m) scales[m] = {levels[m], sums[m] / count, 0, 1, 1};

  std::array<std::vector<Placed>, kMetrics> placed;
  std::array<double, kMetrics> squares{};
  for (Recording const& recording : recordings) {
    Discretiser history(scales);
    for (Sample const& sample : recording.samples) {
      for (int m = 0; m < kMetrics; ++m) {
        auto const at = static_cast<size_t>(m);
        double const distance = sample.metrics[at] - history.mean(m);
        placed[at].push_back({distance, label_of(sample)});
        if (healthy(sample) > 0) squares[at] += distance * distance;
      }
      history.learn(sample, healthy(sample));
    }
  }
  for (size_t m = 0; m < kMetrics; ++m) {
    Scale& scale = scales[m];
    scale.deviation = std::sqrt(squares[m] / count);
    if (scale.deviation == 0) continue;  // a metric that never moves has one level
    for (Placed& p : placed[m]) p.distance /= scale.deviation;
    double most = -1;
    for (double const low : kWidths) {
      for (double const high : kWidths) {
        double const told = information(placed[m], low, high);
        if (told <= most + 1e-12) continue;
        most = told;
        scale.low = low;
        scale.high = high;
      }
    }
  }
  return scales;
}

std::vector<int> symbols_of(Recording const& recording, std::array<Scale, kMetrics> const& scales) {
  Discretiser history(scales);
  std::vector<int> symbols;
  symbols.reserve(recording.samples.size());
  for (Sample const& sample : recording.samples) {
    symbols.push_back(history.symbol(sample));
    history.learn(sample, healthy(sample));
  }
  return symbols;
}

}  // namespace vmsrs::predict
