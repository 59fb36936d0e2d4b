#include "runtime/predict/hidden_markov.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <limits>

namespace vmsrs::predict {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

double uniform(Rng& rng) {
  return static_cast<double>(rng() >> 11) * 0x1p-53;
}

template <class Row>
int draw(Row const& weights, Rng& rng) {
  double left = uniform(rng);
  int last = 0;
  for (Index i = 0; i < weights.size(); ++i) {
    if (weights(i) <= 0) continue;
    last = static_cast<int>(i);
    if (left < weights(i)) break;
    left -= weights(i);
  }
  return last;
}

auto column(Hmm const& hmm, int symbol) {
  if (symbol < 0 || symbol >= hmm.symbols()) std::abort();
  return hmm.emission.col(symbol);
}

// One pass forward: row t is P(x_t | y_1 … y_t), and the factors by which the rows were scaled multiply to P(y).
// False if the model rules a symbol out.
bool forward(Hmm const& hmm, std::span<int const> symbols, MatrixXd& alpha, VectorXd& scale) {
  auto const length = static_cast<Index>(symbols.size());
  alpha.resize(hmm.states(), length);
  scale.resize(length);
  VectorXd expected = hmm.initial;
  for (Index t = 0; t < length; ++t) {
    alpha.col(t) = expected.cwiseProduct(column(hmm, symbols[static_cast<size_t>(t)]));
    scale(t) = alpha.col(t).sum();
    if (!(scale(t) > 0)) return false;
    alpha.col(t) /= scale(t);
    expected.noalias() = hmm.transition.transpose() * alpha.col(t);
  }
  return true;
}

// What a round of Baum-Welch counts: expected visits, not yet normalised.
struct Counts {
  VectorXd initial;
  MatrixXd transition, emission;
  double log_likelihood = 0;

  explicit Counts(Hmm const& hmm)
      : initial(VectorXd::Zero(hmm.states())),
        transition(MatrixXd::Zero(hmm.states(), hmm.states())),
        emission(MatrixXd::Zero(hmm.states(), hmm.symbols())) {}

  bool add(Hmm const& hmm, std::span<int const> symbols, MatrixXd& alpha, VectorXd& scale) {
    if (!forward(hmm, symbols, alpha, scale)) return false;
    log_likelihood += scale.array().log().sum();
    auto const last = static_cast<Index>(symbols.size()) - 1;
    VectorXd beta = VectorXd::Ones(hmm.states());
    MatrixXd pairs = MatrixXd::Zero(hmm.states(), hmm.states());
    for (Index t = last;; --t) {
      VectorXd const gamma = alpha.col(t).cwiseProduct(beta);  // sums to 1
      emission.col(symbols[static_cast<size_t>(t)]) += gamma;
      if (t == 0) {
        initial += gamma;
        break;
      }
      VectorXd const behind = hmm.emission.col(symbols[static_cast<size_t>(t)]).cwiseProduct(beta) / scale(t);
      pairs.noalias() += alpha.col(t - 1) * behind.transpose();
      beta.noalias() = hmm.transition * behind;
    }
    transition += pairs.cwiseProduct(hmm.transition);
    return true;
  }
};

template <class Row, class Old>
void normalise(Row row, Old const& before) {
  double const sum = row.sum();
  if (sum > 0) {
    row /= sum;
  } else {
    row = before;
  }
}

Hmm estimate(Counts const& counts, Hmm const& before, TrainOptions const& options) {
  Hmm next{counts.initial, counts.transition, counts.emission};
  if (options.prior_weight > 0) {
    Hmm const* const prior = options.prior;
    double const n = before.states(), m = before.symbols(), w = options.prior_weight;
    if (prior != nullptr) {
      next.initial += w * prior->initial;
      next.transition += w * prior->transition;
      next.emission += w * prior->emission;
    } else {
      next.initial.array() += w / n;
      next.transition.array() += w / n;
      next.emission.array() += w / m;
    }
  }
  normalise(next.initial.transpose(), before.initial.transpose());
  for (Index i = 0; i < before.states(); ++i) {
    normalise(next.transition.row(i), before.transition.row(i));
    normalise(next.emission.row(i), before.emission.row(i));
  }
  return next;
}

double greatest_change(Hmm const& a, Hmm const& b) {
  return std::max({(a.initial - b.initial).cwiseAbs().maxCoeff(), (a.transition - b.transition).cwiseAbs().maxCoeff(),
                   (a.emission - b.emission).cwiseAbs().maxCoeff()});
}

Result<void> check_rows(MatrixXd const& rows, char const* name) {
  for (Index i = 0; i < rows.rows(); ++i) {
    if (!rows.row(i).allFinite() || rows.row(i).minCoeff() < 0 || std::abs(rows.row(i).sum() - 1) > 1e-6) {
      return fail(fmt::format("row {} of the {} matrix is no distribution: not negative, sum 1", i, name));
    }
  }
  return {};
}

}  // namespace

Result<void> check(Hmm const& hmm) {
  Index const n = hmm.initial.size();
  if (n == 0 || hmm.emission.cols() == 0) return fail("a model needs states and symbols");
  if (hmm.transition.rows() != n || hmm.transition.cols() != n || hmm.emission.rows() != n) {
    return fail(fmt::format("the matrices do not fit together: {} states, transitions {} x {}, emissions {} x {}", n,
                            hmm.transition.rows(), hmm.transition.cols(), hmm.emission.rows(), hmm.emission.cols()));
  }
  if (auto ok = check_rows(hmm.initial.transpose(), "initial"); !ok) return ok;
  if (auto ok = check_rows(hmm.transition, "transition"); !ok) return ok;
  return check_rows(hmm.emission, "emission");
}

Hmm random_hmm(int states, int symbols, Rng& rng) {
  auto const fill = [&rng](auto row) {
    for (Index i = 0; i < row.size(); ++i) row(i) = -std::log(1 - uniform(rng)) + 1e-9;
    row /= row.sum();
  };
  Hmm hmm{VectorXd(states), MatrixXd(states, states), MatrixXd(states, symbols)};
  fill(hmm.initial.transpose());
  for (Index i = 0; i < states; ++i) {
    fill(hmm.transition.row(i));
    fill(hmm.emission.row(i));
  }
  return hmm;
}

Sampled sample(Hmm const& hmm, size_t length, Rng& rng) {
  Sampled sampled;
  for (size_t t = 0; t < length; ++t) {
    int const state = t == 0 ? draw(hmm.initial, rng) : draw(hmm.transition.row(sampled.states.back()), rng);
    sampled.states.push_back(state);
    sampled.symbols.push_back(draw(hmm.emission.row(state), rng));
  }
  return sampled;
}

double log_likelihood(Hmm const& hmm, std::span<int const> symbols) {
  double sum = 0;
  VectorXd expected = hmm.initial;
  for (int const symbol : symbols) {
    VectorXd const joint = expected.cwiseProduct(column(hmm, symbol));
    double const scale = joint.sum();
    if (!(scale > 0)) return -std::numeric_limits<double>::infinity();
    sum += std::log(scale);
    expected.noalias() = hmm.transition.transpose() * joint / scale;
  }
  return sum;
}

Result<MatrixXd> smoothed(Hmm const& hmm, std::span<int const> symbols) {
  MatrixXd alpha;
  VectorXd scale;
  if (!forward(hmm, symbols, alpha, scale)) return fail("the model cannot produce this sequence");
  VectorXd beta = VectorXd::Ones(hmm.states());
  MatrixXd result(static_cast<Index>(symbols.size()), hmm.states());
  for (Index t = result.rows() - 1; t >= 0; --t) {
    result.row(t) = alpha.col(t).cwiseProduct(beta).transpose();
    result.row(t) /= result.row(t).sum();
    VectorXd const behind = column(hmm, symbols[static_cast<size_t>(t)]).cwiseProduct(beta) / scale(t);
    beta.noalias() = hmm.transition * behind;
  }
  return result;
}

void Filter::observe(int symbol) {
  VectorXd expected;
  if (belief_.size() == 0) {
    expected = hmm_->initial;
  } else if (past_ == Past::kAllPaths) {
    expected.noalias() = hmm_->transition.transpose() * belief_;
  } else {
    expected.resize(hmm_->states());
    for (Index j = 0; j < expected.size(); ++j) {
      expected(j) = hmm_->transition.col(j).cwiseProduct(belief_).maxCoeff();
    }
  }
  belief_ = expected.cwiseProduct(column(*hmm_, symbol));
  if (!(belief_.sum() > 0)) {
    ++surprises_;
    belief_ = expected;
  }
  belief_ /= belief_.sum();
}

VectorXd Filter::now() const {
  return belief_.size() == 0 ? hmm_->initial : belief_;
}

VectorXd Filter::ahead(int steps) const {
  VectorXd result = now();
  for (int step = 0; step < steps; ++step) result = hmm_->transition.transpose() * result;
  return result;
}

Result<Trained> train(Hmm start, std::vector<Symbols> const& sequences, TrainOptions const& options) {
  if (auto const ok = check(start); !ok) return tl::unexpected(ok.error());
  for (Symbols const& sequence : sequences) {
    if (sequence.empty()) return fail("an empty sequence teaches nothing");
  }
  if (sequences.empty()) return fail("there is no sequence to learn from");
  Trained trained{std::move(start), 0, false, {}};
  MatrixXd alpha;
  VectorXd scale;
  while (trained.rounds < options.most_rounds && !trained.converged) {
    Counts counts(trained.hmm);
    for (size_t k = 0; k < sequences.size(); ++k) {
      if (!counts.add(trained.hmm, sequences[k], alpha, scale)) {
        return fail(fmt::format("the model cannot produce sequence {}: a probability is 0", k));
      }
    }
    Hmm next = estimate(counts, trained.hmm, options);
    trained.log_likelihoods.push_back(counts.log_likelihood);
    trained.converged = greatest_change(next, trained.hmm) <= options.stop;
    trained.hmm = std::move(next);
    ++trained.rounds;
  }
  return trained;
}

}  // namespace vmsrs::predict
