#include "runtime/predict/evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vmsrs::predict {
namespace {

constexpr double kZ = 1.959963984540054;  // 95 %
constexpr double kNever = -1;

double share(double part, double whole) {
  return whole > 0 ? part / whole : 1;
}

}  // namespace

Interval wilson(double hits, double trials) {
  if (trials <= 0) return {0, 1};
  double const p = hits / trials, z2 = kZ * kZ;
  double const middle = (p + z2 / (2 * trials)) / (1 + z2 / trials);
  double const half = kZ * std::sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials)) / (1 + z2 / trials);
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

Interval mean_interval(std::vector<double> const& values) {
  if (values.empty()) return {0, 0};
  constexpr size_t kResamples = 2000;
  Rng rng(1);
  std::vector<double> means(kResamples);
  for (double& mean : means) {
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i) sum += values[rng() % values.size()];
    mean = sum / static_cast<double>(values.size());
  }
  std::ranges::sort(means);
  return {means[kResamples * 25 / 1000], means[kResamples * 975 / 1000 - 1]};
}

void Score::add(Score const& other) {
  samples += other.samples;
  normal_seconds += other.normal_seconds;
  failures += other.failures;
  predicted += other.predicted;
  alarms_right += other.alarms_right;
  alarms_false += other.alarms_false;
  alarms_late += other.alarms_late;
  lead_seconds.insert(lead_seconds.end(), other.lead_seconds.begin(), other.lead_seconds.end());
  sample_hits += other.sample_hits;
  sample_misses += other.sample_misses;
  sample_false += other.sample_false;
  sample_rejections += other.sample_rejections;
}

double Score::precision() const {
  return share(alarms_right, alarms_right + alarms_false);
}
double Score::recall() const {
  return share(predicted, failures);
}
double Score::sample_precision() const {
  return share(static_cast<double>(sample_hits), static_cast<double>(sample_hits + sample_false));
}
double Score::sample_recall() const {
  return share(static_cast<double>(sample_hits), static_cast<double>(sample_hits + sample_misses));
}
double Score::false_alarms_per_hour() const {
  return normal_seconds > 0 ? alarms_false * 3600 / normal_seconds : 0;
}

Score evaluate(std::vector<Forecast> const& forecasts, Recording const& recording, double threshold, int ahead) {
  Score score;
  auto const& samples = recording.samples;
  score.samples = samples.size();
  bool was_up = false;
  double alarm_in_trouble = kNever;  // since when
  for (size_t t = 0; t < samples.size(); ++t) {
    auto const& health = samples[t].health;
    bool const up = forecasts[t].alarm, raised = up && !was_up;
    was_up = up;
    if (!health) continue;
    double const time = samples[t].time;
    bool const begins = t == 0 || samples[t - 1].health != health;
    switch (*health) {
      case Health::kNormal:
        if (t > 0) score.normal_seconds += time - samples[t - 1].time;
        if (raised) ++score.alarms_false;
        alarm_in_trouble = kNever;
        break;
      case Health::kAbnormal:
        if (raised) ++score.alarms_right;
        if (up && alarm_in_trouble == kNever) alarm_in_trouble = time;
        break;
      case Health::kFailed:
        if (raised) ++score.alarms_late;
        if (begins) {
          ++score.failures;
          if (alarm_in_trouble != kNever) {
            ++score.predicted;
            score.lead_seconds.push_back(time - alarm_in_trouble);
          }
        }
        break;
    }
  }
  for (size_t t = 0; t + static_cast<size_t>(ahead) < samples.size(); ++t) {
    auto const& health = samples[t + static_cast<size_t>(ahead)].health;
    if (!health) continue;
    bool const said = forecasts[t].trouble >= threshold, is = health != Health::kNormal;
    ++(said ? (is ? score.sample_hits : score.sample_false) : (is ? score.sample_misses : score.sample_rejections));
  }
  return score;
}

Score evaluate(Model const& model, Recording const& recording, PredictorOptions const& options) {
  Predictor predictor(model, options);
  std::vector<Forecast> forecasts;
  forecasts.reserve(recording.samples.size());
  for (Sample const& sample : recording.samples) forecasts.push_back(predictor.observe(sample));
  return evaluate(forecasts, recording, predictor.threshold(), options.ahead);
}

}  // namespace vmsrs::predict
