// How good forecasts are, on labelled recordings.
//
// A failure is a stretch of `failed` samples in a recording, its trouble the `abnormal` ones just before it. It was
// predicted if the alarm was up at some time of the trouble, so before the failure; its lead time runs from the alarm
// (or the trouble's beginning, if the alarm was up by then already) to the first failed sample.
// An alarm that is raised in trouble is right, one raised in normal samples is false, however it goes on. One raised
// after the failure is late: it is neither, and the failure counts as missed.
// Besides each forecast is compared with its sample's label: trouble or not.
#pragma once

#include <string>
#include <vector>

#include "runtime/predict/predictor.hpp"

namespace vmsrs::predict {

struct Interval {
  double low = 0, high = 1;
};

// Wilson's score interval at 95 % for `hits` of `trials`; 0 to 1 without any.
Interval wilson(double hits, double trials);
// At 95 %, by bootstrap with a fixed seed; both 0 without values.
Interval mean_interval(std::vector<double> const& values);

struct Score {
  size_t samples = 0;
  double normal_seconds = 0;
  // Events.
  int failures = 0, predicted = 0;
  int alarms_right = 0, alarms_false = 0, alarms_late = 0;
  std::vector<double> lead_seconds;  // of predicted failures
  // Samples: the forecast against the label.
  size_t sample_hits = 0, sample_misses = 0, sample_false = 0, sample_rejections = 0;

  void add(Score const& other);
  double precision() const;  // of alarms: right / (right + false); 1 if there was none
  double recall() const;     // of failures; 1 if there was none
  double sample_precision() const, sample_recall() const;
  double false_alarms_per_hour() const;
};

// Samples whose health nobody labelled take no part.
Score evaluate(Model const& model, Recording const& recording, PredictorOptions const& options = {});

// The same from forecasts that were made: forecasts[t] was made after sample t, for sample t + ahead.
Score evaluate(std::vector<Forecast> const& forecasts, Recording const& recording, double threshold, int ahead);

}  // namespace vmsrs::predict
