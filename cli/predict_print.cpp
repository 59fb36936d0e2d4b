#include "cli/predict_print.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <ostream>

#include "runtime/predict/epoch_simulator.hpp"

namespace vmsrs::cli {
namespace {

using nlohmann::json;

std::string name_of(predict::State state) {
  return fmt::format("{}/{}", predict::kHealthNames[static_cast<size_t>(state.health)],
                     predict::kLoadNames[static_cast<size_t>(state.load)]);
}

// "runs/leak-3.csv" is of the kind "leak".
std::string kind_of(std::string const& path) {
  std::string const name = std::filesystem::path(path).filename().string();
  return name.substr(0, std::min(name.rfind('-'), name.rfind('.')));
}

json interval(predict::Interval i) {
  return json::array({i.low, i.high});
}

double mean(std::vector<double> const& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

json json_of(predict::Score const& s) {
  std::vector<double> leads = s.lead_seconds;
  std::ranges::sort(leads);
  return {{"samples", s.samples},
          {"normal_seconds", s.normal_seconds},
          {"failures", s.failures},
          {"predicted", s.predicted},
          {"recall", s.recall()},
          {"recall_95", interval(predict::wilson(s.predicted, s.failures))},
          {"alarms_right", s.alarms_right},
          {"alarms_false", s.alarms_false},
          {"alarms_late", s.alarms_late},
          {"precision", s.precision()},
          {"precision_95", interval(predict::wilson(s.alarms_right, s.alarms_right + s.alarms_false))},
          {"false_alarms_per_hour", s.false_alarms_per_hour()},
          {"lead_seconds", leads},
          {"lead_mean", mean(leads)},
          {"lead_mean_95", interval(predict::mean_interval(leads))},
          {"sample_precision", s.sample_precision()},
          {"sample_recall", s.sample_recall()}};
}

// "0.93 (0.81-0.98)", or "-" without trials.
std::string with_interval(int hits, int trials) {
  if (trials == 0) return "-";
  auto const i = predict::wilson(hits, trials);
  return fmt::format("{:.2f} ({:.2f}-{:.2f})", hits / static_cast<double>(trials), i.low, i.high);
}

void print_row(std::string const& kind, predict::Score const& s) {
  auto const lead = predict::mean_interval(s.lead_seconds);
  std::string const leads =
      s.lead_seconds.empty() ? "-" : fmt::format("{:.1f} ({:.1f}-{:.1f})", mean(s.lead_seconds), lead.low, lead.high);
  fmt::print("{:10} {:>7} {:>9} {:>18} {:>11} {:>18} {:>8.1f} {:>18} {:>7.3f} {:>7.3f}\n", kind, s.samples,
             fmt::format("{}/{}", s.predicted, s.failures), with_interval(s.predicted, s.failures),
             fmt::format("{}+{}+{}", s.alarms_right, s.alarms_false, s.alarms_late),
             with_interval(s.alarms_right, s.alarms_right + s.alarms_false), s.false_alarms_per_hour(), leads,
             s.sample_precision(), s.sample_recall());
}

std::vector<predict::Forecast> forecasts_of(predict::Model const& model, predict::Recording const& recording,
                                            predict::PredictorOptions const& options) {
  predict::Predictor predictor(model, options);
  std::vector<predict::Forecast> forecasts;
  forecasts.reserve(recording.samples.size());
  for (predict::Sample const& sample : recording.samples) forecasts.push_back(predictor.observe(sample));
  return forecasts;
}

// What one policy comes to over all recordings.
struct EpochRow {
  std::string policy;
  predict::EpochRun all;
  std::map<std::string, std::vector<double>> lost;  // by kind of recording
};

json json_of(EpochRow const& row) {
  predict::EpochRun const& r = row.all;
  double const seconds = std::max(r.seconds, 1e-9), healthy = std::max(r.healthy_seconds, 1e-9);
  json lost;
  for (auto const& [kind, values] : row.lost) lost[kind] = mean(values) * 1000;
  std::vector<double> predicted, missed;
  for (size_t i = 0; i < r.lost.size(); ++i) (r.predicted[i] ? predicted : missed).push_back(r.lost[i]);
  return {{"policy", row.policy},
          {"checkpoints_per_second", r.checkpoints / seconds},
          {"healthy_checkpoints_per_second", r.healthy_checkpoints / healthy},
          {"stopped_percent", 100 * r.stopped / seconds},
          {"healthy_delay_strict_ms", 1000 * r.healthy_strict_delay / healthy},
          {"healthy_delay_relaxed_ms", 1000 * r.healthy_relaxed_delay / healthy},
          {"failures_predicted", predicted.size()},
          {"failures_missed", missed.size()},
          {"lost_ms", mean(r.lost) * 1000},
          {"lost_predicted_ms", mean(predicted) * 1000},
          {"lost_missed_ms", mean(missed) * 1000},
          {"lost_killed_ms", 1000 * r.healthy_age / healthy},
          {"lost_by_kind_ms", lost}};
}

}  // namespace

json predict_json(predict::TrainingOutcome const& outcome) {
  json states = json::array();
  for (int i = 0; i < predict::kStates; ++i) states.push_back(name_of(outcome.model.name(i)));
  return {{"samples", outcome.samples},
          {"rounds", outcome.trained.rounds},
          {"converged", outcome.trained.converged},
          {"log_likelihood_first", outcome.trained.log_likelihoods.front()},
          {"log_likelihood_last", outcome.trained.log_likelihoods.back()},
          {"states", states},
          {"threshold", outcome.model.threshold}};
}

json predict_json(predict::Forecast const& forecast) {
  json states;
  for (int i = 0; i < predict::kStates; ++i) {
    states[name_of(predict::state_at(i))] = forecast.states[static_cast<size_t>(i)];
  }
  return {{"trouble", forecast.trouble}, {"failed", forecast.failed}, {"alarm", forecast.alarm}, {"states", states}};
}

void print_scores(predict::Model const& model, std::vector<predict::Recording> const& recordings,
                  predict::PredictorOptions const& options, bool as_json) {
  std::map<std::string, predict::Score> kinds;
  predict::Score all;
  json each = json::array();
  for (predict::Recording const& recording : recordings) {
    auto const score = predict::evaluate(model, recording, options);
    kinds[kind_of(recording.name)].add(score);
    all.add(score);
    if (as_json) {
      each.push_back(json_of(score));
      each.back()["recording"] = recording.name;
    }
  }
  if (as_json) {
    json by_kind;
    for (auto const& [kind, score] : kinds) by_kind[kind] = json_of(score);
    fmt::print("{}\n", json{{"all", json_of(all)}, {"kinds", by_kind}, {"recordings", each}}.dump(1));
    return;
  }
  fmt::print("{:10} {:>7} {:>9} {:>18} {:>11} {:>18} {:>8} {:>18} {:>7} {:>7}\n", "kind", "samples", "predicted",
             "recall (95 %)", "alarms", "precision (95 %)", "false/h", "lead s (95 %)", "s.prec", "s.recall");
  for (auto const& [kind, score] : kinds) print_row(kind, score);
  print_row("all", all);
  fmt::print("alarms: right + false + late (after the failure); s.: each sample's forecast against its label\n");
}

void write_forecasts(predict::Model const& model, std::vector<predict::Recording> const& recordings,
                     predict::PredictorOptions const& options, std::ostream& out) {
  for (predict::Recording const& recording : recordings) {
    auto const forecasts = forecasts_of(model, recording, options);
    for (size_t t = 0; t < forecasts.size(); ++t) {
      auto line = predict_json(forecasts[t]);
      line["recording"] = recording.name;
      line["time"] = recording.samples[t].time;
      out << line.dump() << '\n';
    }
  }
}

void print_epochs(predict::Model const& model, std::vector<predict::Recording> const& recordings,
                  predict::PredictorOptions const& options, EpochOptions const& epochs) {
  double const threshold = options.threshold > 0 ? options.threshold : model.threshold;
  predict::CheckpointCost const cost{epochs.cost_ms / 1000, epochs.share};
  double const shortest = epochs.shortest_ms / 1000, longest = epochs.longest_ms / 1000;
  std::vector<predict::EpochPolicy> const policies{
      predict::FixedEpoch{0.025},
      predict::FixedEpoch{0.1},
      predict::FixedEpoch{1},
      predict::YoungDalyEpoch{cost.fixed, epochs.mtbf_s},
      predict::ThresholdEpoch{shortest, longest, threshold},
      predict::HazardEpoch{shortest, longest, cost.fixed, epochs.mtbf_s, epochs.trouble_mtbf_s}};
  std::vector<EpochRow> rows;
  rows.reserve(policies.size());
  for (auto const& policy : policies) rows.push_back({predict::name_of(policy), {}, {}});
  for (predict::Recording const& recording : recordings) {
    auto const forecasts = forecasts_of(model, recording, options);
    for (size_t i = 0; i < policies.size(); ++i) {
      auto const run = predict::simulate(policies[i], cost, recording, forecasts);
      rows[i].all.add(run);
      auto& lost = rows[i].lost[kind_of(recording.name)];
      lost.insert(lost.end(), run.lost.begin(), run.lost.end());
    }
  }
  json all = json::array();
  for (EpochRow const& row : rows) all.push_back(json_of(row));
  if (epochs.json) {
    fmt::print("{}\n", all.dump(1));
    return;
  }
  fmt::print("{:34} {:>8} {:>9} {:>11} {:>12} {:>11} {:>11} {:>11}\n", "policy", "a second", "stopped %", "strict +ms",
             "relaxed +ms", "predicted", "missed", "killed");
  for (json const& row : all) {
    auto const number = [&row](char const* key) { return row[key].get<double>(); };
    fmt::print("{:34} {:>8.2f} {:>9.3f} {:>11.3f} {:>12.5f} {:>11.1f} {:>11.1f} {:>11.1f}\n",
               row["policy"].get<std::string>(), number("healthy_checkpoints_per_second"), number("stopped_percent"),
               number("healthy_delay_strict_ms"), number("healthy_delay_relaxed_ms"), number("lost_predicted_ms"),
               number("lost_missed_ms"), number("lost_killed_ms"));
  }
  fmt::print(
      "a second: checkpoints in good health; +ms: added to a response in good health, on average\n"
      "ms of work lost: by failures that were predicted, that were missed; by a sudden kill in good health\n");
}

}  // namespace vmsrs::cli
