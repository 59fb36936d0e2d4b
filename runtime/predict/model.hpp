// A trained predictor: the hidden Markov model, the scales of the metrics, and what the states mean. Its file is JSON
// with a version; whatever it holds is checked before it is used.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "runtime/predict/discretiser.hpp"
#include "runtime/predict/hidden_markov.hpp"

namespace vmsrs::predict {

inline constexpr int kModelVersion = 1;

struct Model {
  Hmm hmm;  // kStates states; as many symbols as the scales make
  std::array<Scale, kMetrics> scales;
  // kStates × kStates. Row i: what was labelled how while the model was in hidden state i; rows sum to 1, columns in
  // the order of index_of(State). Baum-Welch numbers its states as it likes: this is what names them.
  Eigen::MatrixXd meaning;
  double threshold = 0.5;  // of the probability of trouble, from which on it is worth an alarm

  // What state i is seen with most often.
  State name(int state) const;
};

Result<void> check(Model const& model);

std::string to_json(Model const& model);
Result<Model> parse_model(std::string_view text, std::string const& name);
Result<Model> read_model(std::string const& path);
Result<void> write_model(Model const& model, std::string const& path);  // whole or not at all

}  // namespace vmsrs::predict
