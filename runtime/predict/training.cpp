#include "runtime/predict/training.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/predict/predictor.hpp"

namespace vmsrs::predict {
namespace {

std::optional<int> label_of(Sample const& sample) {
  if (!sample.health || !sample.load) return std::nullopt;
  return index_of(State{*sample.health, *sample.load});
}

// What the labels themselves say, with a little of everything: Baum-Welch cannot bring a 0 back.
Hmm counted(std::vector<Recording> const& recordings, std::vector<Symbols> const& sequences, int symbols) {
  Hmm hmm{Eigen::VectorXd::Constant(kStates, 0.1), Eigen::MatrixXd::Constant(kStates, kStates, 0.01),
          Eigen::MatrixXd::Constant(kStates, symbols, 1.0 / symbols)};
  hmm.transition.diagonal().array() += 1;
  for (size_t k = 0; k < recordings.size(); ++k) {
    std::optional<int> before;
    for (size_t t = 0; t < recordings[k].samples.size(); ++t) {
      auto const label = label_of(recordings[k].samples[t]);
      if (label) {
        hmm.emission(*label, sequences[k][t]) += 1;
        if (t == 0) hmm.initial(*label) += 1;
        if (before) hmm.transition(*before, *label) += 1;
      }
      before = label;
    }
  }
  hmm.initial /= hmm.initial.sum();
  for (int i = 0; i < kStates; ++i) {
    hmm.transition.row(i) /= hmm.transition.row(i).sum();
    hmm.emission.row(i) /= hmm.emission.row(i).sum();
  }
  return hmm;
}

// The threshold with the best F-measure of "the next sample is not normal". As the paper would have it rather low:
// among equals the lowest.
double best_threshold(Model const& model, std::vector<Recording> const& recordings) {
  std::vector<std::pair<double, bool>> forecasts;
  for (Recording const& recording : recordings) {
    Predictor predictor(model);
    for (size_t t = 0; t + 1 < recording.samples.size(); ++t) {
      double const trouble = predictor.observe(recording.samples[t]).trouble;
      auto const& next = recording.samples[t + 1].health;
      if (next) forecasts.emplace_back(trouble, next != Health::kNormal);
    }
  }
  double best = 0.5, best_f = -1;
  for (int percent = 5; percent <= 95; percent += 5) {
    double const threshold = percent / 100.0;
    double hits = 0, wrong = 0;
    for (auto const& [trouble, is] : forecasts) {
      bool const said = trouble >= threshold;
      hits += said && is ? 1 : 0;
      wrong += said != is ? 1 : 0;
    }
    double const f = 2 * hits / std::max(2 * hits + wrong, 1.0);
    if (f <= best_f + 1e-9) continue;
    best_f = f;
    best = threshold;
  }
  return best;
}

}  // namespace

Result<Eigen::MatrixXd> meaning_of(Hmm const& hmm, std::vector<Recording> const& recordings,
                                   std::vector<Symbols> const& sequences) {
  Eigen::MatrixXd seen = Eigen::MatrixXd::Zero(hmm.states(), kStates);
  for (size_t k = 0; k < recordings.size(); ++k) {
    auto const gamma = smoothed(hmm, sequences[k]);
    if (!gamma) return tl::unexpected(gamma.error());
    for (size_t t = 0; t < sequences[k].size(); ++t) {
      auto const label = label_of(recordings[k].samples[t]);
      if (label) seen.col(*label) += gamma->row(static_cast<Eigen::Index>(t)).transpose();
    }
  }
  Eigen::RowVectorXd overall = seen.colwise().sum();
  if (!(overall.sum() > 0)) return fail("no sample has both labels, health and load: the states cannot be named");
  overall /= overall.sum();
  for (Eigen::Index i = 0; i < seen.rows(); ++i) {
    seen.row(i) += 0.1 * overall;
    seen.row(i) /= seen.row(i).sum();
  }
  return seen;
}

Result<TrainingOutcome> train_model(std::vector<Recording> const& recordings, TrainingOptions const& options) {
  size_t samples = 0, troubled = 0;
  for (Recording const& recording : recordings) {
    samples += recording.samples.size();
    troubled += static_cast<size_t>(std::ranges::count_if(recording.samples, [](Sample const& sample) {
      return sample.health && sample.health != Health::kNormal && sample.load;
    }));
  }
  if (troubled == 0) return fail("no sample is labelled abnormal or failed: there is no trouble to learn from");
  auto const scales = fit_scales(recordings, options.levels);
  if (!scales) return tl::unexpected(scales.error());
  std::vector<Symbols> sequences;
  sequences.reserve(recordings.size());
  for (Recording const& recording : recordings) sequences.push_back(symbols_of(recording, *scales));

  int const symbols = indices(options.levels);
  TrainOptions const rounds{options.stop, options.most_rounds, options.prior_weight, nullptr};
  TrainingOutcome outcome{{{}, *scales, {}, 0.5}, {}, samples};
  if (options.start == Start::kLabels) {
    auto trained = train(counted(recordings, sequences, symbols), sequences, rounds);
    if (!trained) return tl::unexpected(trained.error());
    outcome.trained = std::move(*trained);
  } else {
    Rng rng(options.seed);
    for (int i = 0; i < std::max(options.restarts, 1); ++i) {
      auto trained = train(random_hmm(kStates, symbols, rng), sequences, rounds);
      if (!trained) return tl::unexpected(trained.error());
      if (i > 0 && trained->log_likelihoods.back() <= outcome.trained.log_likelihoods.back()) continue;
      outcome.trained = std::move(*trained);
    }
  }
  outcome.model.hmm = outcome.trained.hmm;
  auto meaning = meaning_of(outcome.model.hmm, recordings, sequences);
  if (!meaning) return tl::unexpected(meaning.error());
  outcome.model.meaning = std::move(*meaning);
  outcome.model.threshold = best_threshold(outcome.model, recordings);
  return outcome;
}

}  // namespace vmsrs::predict
