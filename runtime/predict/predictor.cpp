#include "runtime/predict/predictor.hpp"

#include <algorithm>

namespace vmsrs::predict {
namespace {

double trouble_in(Eigen::VectorXd const& states, Model const& model) {
  return 1 - (model.meaning.transpose() * states).head(kLoads).sum();
}

}  // namespace

Predictor::Predictor(Model model, PredictorOptions const& options)
    : model_(std::move(model)),
      options_(options),
      threshold_(options.threshold > 0 ? options.threshold : model_.threshold),
      history_(model_.scales),
      filter_(model_.hmm, options.past) {}

Forecast Predictor::observe(Sample const& sample) {
  int const symbol = history_.symbol(sample);
  filter_.observe(symbol);
  double const trouble_now = trouble_in(filter_.now(), model_);
  history_.learn(sample, std::clamp(1 - trouble_now, 0.0, 1.0));

  Eigen::VectorXd const next = model_.meaning.transpose() * filter_.ahead(options_.ahead);
  Forecast forecast;
  std::ranges::copy(next, forecast.states.begin());
  forecast.failed = next.tail(kLoads).sum();
  forecast.trouble = std::clamp(1 - next.head(kLoads).sum(), 0.0, 1.0);
  bool const troubled = forecast.trouble >= threshold_;
  troubled_ = troubled ? troubled_ + 1 : 0;
  calm_ = troubled ? 0 : calm_ + 1;
  if (troubled_ >= options_.confirm) alarm_ = true;
  if (calm_ >= options_.clear) alarm_ = false;
  forecast.alarm = alarm_;

  if (troubled) {
    if (!remembered_.empty() && !remembered_.back().empty()) remembered_.emplace_back();
  } else {
    if (remembered_.empty()) remembered_.emplace_back();
    remembered_.back().push_back(symbol);
    // The oldest half goes at once, so that a stretch is not moved with every sample.
    if (++remembered_samples_ >= 2 * options_.remember) {
      size_t surplus = remembered_samples_ - options_.remember;
      while (surplus >= remembered_.front().size()) {
        surplus -= remembered_.front().size();
        remembered_samples_ -= remembered_.front().size();
        remembered_.erase(remembered_.begin());
      }
      auto& oldest = remembered_.front();
      oldest.erase(oldest.begin(), oldest.begin() + static_cast<std::ptrdiff_t>(surplus));
      remembered_samples_ -= surplus;
    }
  }
  return forecast;
}

Result<double> Predictor::retrain() {
  std::vector<Symbols> sequences;
  for (Symbols const& stretch : remembered_) {
    if (!stretch.empty()) sequences.push_back(stretch);
  }
  if (sequences.empty()) return 0;
  Hmm const before = model_.hmm;
  auto trained = train(before, sequences, {0, 1, options_.retrain_weight, &before});
  if (!trained) return tl::unexpected(trained.error());
  // Where a sequence begins is where trouble ended or the memory was cut: it says nothing of how a guest starts.
  trained->hmm.initial = before.initial;
  model_.hmm = std::move(trained->hmm);
  return std::max((model_.hmm.transition - before.transition).cwiseAbs().maxCoeff(),
                  (model_.hmm.emission - before.emission).cwiseAbs().maxCoeff());
}

}  // namespace vmsrs::predict
