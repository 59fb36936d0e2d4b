// The predictor at work: samples in, forecasts out (paper 001, section 2.3, and figure 2's loop back into the model).
#pragma once

#include <array>
#include <vector>

#include "runtime/predict/model.hpp"

namespace vmsrs::predict {

struct PredictorOptions {
  Past past = Past::kAllPaths;
  int ahead = 1;                // samples from now to what is forecast
  double threshold = 0;         // 0: the model's
  int confirm = 2;              // so many forecasts of trouble in a row raise the alarm
  int clear = 10;               // so many without one end it
  size_t remember = 3600;       // samples that retraining learns from
  double retrain_weight = 200;  // so many visits of each state is the old model worth in it
};

struct Forecast {
  std::array<double, kStates> states{};  // P(state), in the order of index_of(State), `ahead` samples on
  double trouble = 0;                    // P(abnormal or failed)
  double failed = 0;
  bool alarm = false;
};

// Not thread-safe.
class Predictor {
 public:
  explicit Predictor(Model model, PredictorOptions const& options = {});
  Predictor(Predictor const&) = delete;
  Predictor& operator=(Predictor const&) = delete;

  Forecast observe(Sample const& sample);
  // One round of Baum-Welch on what is remembered, the old parameters counted as `retrain_weight` visits: the model
  // follows the guest, rare states that were not seen stay as they were, and names keep their meaning, as parameters
  // move and states are not made anew. What was forecast as trouble is left out: nobody says what it was. Returns the
  // greatest change of a parameter.
  Result<double> retrain();

  Model const& model() const { return model_; }
  double threshold() const { return threshold_; }

 private:
  Model model_;
  PredictorOptions options_;
  double threshold_;
  Discretiser history_;
  Filter filter_;
  int troubled_ = 0, calm_ = 0;
  bool alarm_ = false;
  std::vector<Symbols> remembered_;  // stretches without trouble
  size_t remembered_samples_ = 0;
};

}  // namespace vmsrs::predict
