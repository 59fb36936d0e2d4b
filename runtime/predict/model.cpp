#include "runtime/predict/model.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace vmsrs::predict {
namespace {

using nlohmann::json;

constexpr char const* kFormat = "vmsrs predictor";
constexpr size_t kMostBytes = 16 << 20;

json array_of(Eigen::MatrixXd const& rows) {
  json all = json::array();
  for (Eigen::Index i = 0; i < rows.rows(); ++i) {
    json row = json::array();
    for (Eigen::Index j = 0; j < rows.cols(); ++j) row.push_back(rows(i, j));
    all.push_back(std::move(row));
  }
  return all;
}

Result<json const*> member(json const& object, char const* key) {
  if (!object.is_object() || !object.contains(key)) return fail(fmt::format("\"{}\" is missing", key));
  return &object.at(key);
}

Result<double> number_of(json const& object, char const* key) {
  auto const found = member(object, key);
  if (!found) return tl::unexpected(found.error());
  if (!(*found)->is_number()) return fail(fmt::format("\"{}\" is no number", key));
  double const value = (*found)->get<double>();
  if (!std::isfinite(value)) return fail(fmt::format("\"{}\" is not finite", key));
  return value;
}

Result<Eigen::MatrixXd> matrix_of(json const& object, char const* key, int rows, int columns) {
  auto const found = member(object, key);
  if (!found) return tl::unexpected(found.error());
  auto const wrong = [&] { return fail(fmt::format("\"{}\" is no matrix of {} x {} numbers", key, rows, columns)); };
  json const& all = **found;
  if (!all.is_array() || all.size() != static_cast<size_t>(rows)) return wrong();
  Eigen::MatrixXd matrix(rows, columns);
  for (int i = 0; i < rows; ++i) {
    json const& row = all[static_cast<size_t>(i)];
    if (!row.is_array() || row.size() != static_cast<size_t>(columns)) return wrong();
    for (int j = 0; j < columns; ++j) {
      if (!row[static_cast<size_t>(j)].is_number()) return wrong();
      matrix(i, j) = row[static_cast<size_t>(j)].get<double>();
    }
  }
  return matrix;
}

Result<Scale> scale_of(json const& object) {
  Scale scale;
  struct Field {
    char const* key;
    double* to;
  };
  double levels = 0;
  for (Field const field : {Field{"levels", &levels}, Field{"mean", &scale.mean}, Field{"deviation", &scale.deviation},
                            Field{"low", &scale.low}, Field{"high", &scale.high}}) {
    auto const value = number_of(object, field.key);
    if (!value) return tl::unexpected(value.error());
    if (*value < 0) return fail(fmt::format("\"{}\" is negative", field.key));
    *field.to = *value;
  }
  if (levels != 2 && levels != 3) return fail("\"levels\" is neither 2 nor 3");
  scale.levels = static_cast<int>(levels);
  return scale;
}

Result<Model> model_of(json const& file) {
  auto const format = member(file, "format");
  if (!format) return tl::unexpected(format.error());
  if (**format != kFormat) return fail(fmt::format("\"format\" is not \"{}\"", kFormat));
  auto const version = number_of(file, "version");
  if (!version) return tl::unexpected(version.error());
  if (*version != kModelVersion) {
    return fail(fmt::format("version {}; this program reads version {}", *version, kModelVersion));
  }
  auto const metrics = member(file, "metrics");
  if (!metrics) return tl::unexpected(metrics.error());
  Model model;
  Levels counts;
  for (size_t m = 0; m < kMetrics; ++m) {
    std::string const key(kMetricNames[m]);
    auto const entry = member(**metrics, key.c_str());
    if (!entry) return tl::unexpected(entry.error());
    auto const scale = scale_of(**entry);
    if (!scale) return fail(fmt::format("metric {}: {}", key, scale.error().message));
    model.scales[m] = *scale;
    counts[m] = scale->levels;
  }
  auto const initial = matrix_of(file, "initial", 1, kStates);
  if (!initial) return tl::unexpected(initial.error());
  model.hmm.initial = initial->row(0).transpose();
  struct Field {
    char const* key;
    Eigen::MatrixXd* to;
    int columns;
  };
  for (Field const field :
       {Field{"transition", &model.hmm.transition, kStates}, Field{"emission", &model.hmm.emission, indices(counts)},
        Field{"meaning", &model.meaning, kStates}}) {
    auto matrix = matrix_of(file, field.key, kStates, field.columns);
    if (!matrix) return tl::unexpected(matrix.error());
    *field.to = std::move(*matrix);
  }
  auto const threshold = number_of(file, "threshold");
  if (!threshold) return tl::unexpected(threshold.error());
  model.threshold = *threshold;
  if (auto const ok = check(model); !ok) return tl::unexpected(ok.error());
  return model;
}

}  // namespace

State Model::name(int state) const {
  Eigen::Index most = 0;
  meaning.row(state).maxCoeff(&most);
  return state_at(static_cast<int>(most));
}

Result<void> check(Model const& model) {
  Levels counts;
  for (size_t m = 0; m < kMetrics; ++m) counts[m] = model.scales[m].levels;
  if (model.hmm.states() != kStates)
    return fail(fmt::format("{} states where {} are needed", model.hmm.states(), kStates));
  if (model.hmm.symbols() != indices(counts)) return fail("the emissions do not fit the levels of the metrics");
  if (auto ok = check(model.hmm); !ok) return ok;
  Hmm const as_rows{model.hmm.initial, model.meaning, model.meaning};
  if (auto const ok = check(as_rows); !ok)
    return fail("\"meaning\" has a row that is no distribution: not negative, sum 1");
  if (!(model.threshold > 0 && model.threshold < 1)) return fail("the threshold is not between 0 and 1");
  return {};
}

std::string to_json(Model const& model) {
  json metrics;
  for (size_t m = 0; m < kMetrics; ++m) {
    Scale const& s = model.scales[m];
    metrics[std::string(kMetricNames[m])] = {
        {"levels", s.levels}, {"mean", s.mean}, {"deviation", s.deviation}, {"low", s.low}, {"high", s.high}};
  }
  json states = json::array();
  for (int i = 0; i < kStates; ++i) {
    State const s = model.name(i);
    states.push_back(
        fmt::format("{}/{}", kHealthNames[static_cast<size_t>(s.health)], kLoadNames[static_cast<size_t>(s.load)]));
  }
  json const file = {{"format", kFormat},
                     {"version", kModelVersion},
                     {"metrics", metrics},
                     {"states", states},  // for people; "meaning" says it exactly
                     {"initial", array_of(model.hmm.initial.transpose())},
                     {"transition", array_of(model.hmm.transition)},
                     {"emission", array_of(model.hmm.emission)},
                     {"meaning", array_of(model.meaning)},
                     {"threshold", model.threshold}};
  return file.dump() + '\n';
}

Result<Model> parse_model(std::string_view text, std::string const& name) {
  json const file = json::parse(text, nullptr, false);
  if (file.is_discarded()) return fail(fmt::format("{}: no model: it is not JSON", name));
  auto model = model_of(file);
  if (!model) return fail(fmt::format("{}: no model: {}", name, model.error().message));
  return model;
}

Result<Model> read_model(std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail_host(path);
  std::string text;
  std::array<char, 1 << 16> block;
  while (file.read(block.data(), block.size()) || file.gcount() > 0) {
    text.append(block.data(), static_cast<size_t>(file.gcount()));
    if (text.size() > kMostBytes) return fail(fmt::format("{}: longer than any model", path));
  }
  if (file.bad() || (text.empty() && !file.eof())) return fail_host(path);
  return parse_model(text, path);
}

Result<void> write_model(Model const& model, std::string const& path) {
  std::string const fresh = path + ".new";
  std::ofstream file(fresh, std::ios::trunc | std::ios::binary);
  if (!file) return fail_host(fresh);
  file << to_json(model);
  file.close();
  if (!file) return fail_host(fresh);
  if (std::rename(fresh.c_str(), path.c_str()) != 0) return fail_host(path);
  return {};
}

}  // namespace vmsrs::predict
