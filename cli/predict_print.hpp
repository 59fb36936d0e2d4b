// What `vmsrs predict` prints: tables for people, JSON for programs.
#pragma once

#include <iosfwd>
#include <nlohmann/json.hpp>
#include <vector>

#include "runtime/predict/evaluation.hpp"
#include "runtime/predict/training.hpp"

namespace vmsrs::cli {

nlohmann::json predict_json(predict::TrainingOutcome const& outcome);
nlohmann::json predict_json(predict::Forecast const& forecast);

// A row for each kind of recording (its file's name up to the last "-" or "."), and one for all.
void print_scores(predict::Model const& model, std::vector<predict::Recording> const& recordings,
                  predict::PredictorOptions const& options, bool as_json);

// A line for each sample: {"recording": …, "time": …, "trouble": …, "states": {…}}.
void write_forecasts(predict::Model const& model, std::vector<predict::Recording> const& recordings,
                     predict::PredictorOptions const& options, std::ostream& out);

struct EpochOptions {
  double cost_ms = 1, share = 0.01;
  double shortest_ms = 25, longest_ms = 1000;
  double mtbf_s = 86400, trouble_mtbf_s = 30;
  bool json = false;
};
void print_epochs(predict::Model const& model, std::vector<predict::Recording> const& recordings,
                  predict::PredictorOptions const& options, EpochOptions const& epochs);

}  // namespace vmsrs::cli
