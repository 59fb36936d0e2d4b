// Hidden Markov models over a finite alphabet: likelihood, filtering, training (paper 001, sections 2.1 to 2.4).
//
// Shapes: N hidden states, M symbols 0 … M - 1. Rows of `transition` (N × N, row i: from state i) and `emission` (N ×
// M) sum to 1, as does `initial` (N). All sums of products over time are scaled to 1 at each step, so nothing
// underflows however long a sequence is; likelihoods are natural logarithms. Values, no shared state: each function may
// run in any thread. Out of range symbols are the caller's mistake and abort.
#pragma once

#include <Eigen/Dense>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "runtime/predict/error.hpp"

namespace vmsrs::predict {

struct Hmm {
  Eigen::VectorXd initial;
  Eigen::MatrixXd transition, emission;

  int states() const { return static_cast<int>(initial.size()); }
  int symbols() const { return static_cast<int>(emission.cols()); }
};

using Symbols = std::vector<int>;
using Rng = std::mt19937_64;

// Shapes fit, every number is a probability and every row sums to 1 (within 1e-6).
Result<void> check(Hmm const& hmm);

// Every row drawn evenly from all distributions, none of whose entries is 0.
Hmm random_hmm(int states, int symbols, Rng& rng);

struct Sampled {
  std::vector<int> states;
  Symbols symbols;
};
Sampled sample(Hmm const& hmm, size_t length, Rng& rng);

// log P(symbols); minus infinity if the model cannot produce them.
double log_likelihood(Hmm const& hmm, std::span<int const> symbols);

// Row t: P(x_t = i | all symbols), by the forward and backward passes. A sequence that the model cannot produce fails.
Result<Eigen::MatrixXd> smoothed(Hmm const& hmm, std::span<int const> symbols);

// How the past is summed up in algorithm 1.
enum class Past {
  kAllPaths,  // P(x_t = i | y_1 … y_t): the forward variable, normalised
  kBestPath,  // max over paths of P(x_1 … x_t = i, y_1 … y_t), normalised over i: formula (1) of the paper
};

// Algorithm 1, one symbol at a time: what is known of the state now, and of the next. A symbol that the model rules out
// says nothing: the state moves on unobserved, and `surprises` counts it.
class Filter {
 public:
  explicit Filter(Hmm const& hmm, Past past = Past::kAllPaths) : hmm_(&hmm), past_(past) {}

  void observe(int symbol);
  // Before the first symbol the initial distribution.
  Eigen::VectorXd now() const;
  // Of the state `steps` after the last symbol; 1 is the forecast of the paper.
  Eigen::VectorXd ahead(int steps = 1) const;
  uint64_t surprises() const { return surprises_; }
  // Goes on with other parameters of the same shape, which must outlive the filter as the first ones.
  void use(Hmm const& hmm) { hmm_ = &hmm; }

 private:
  Hmm const* hmm_;
  Past past_;
  Eigen::VectorXd belief_;  // empty before the first symbol
  uint64_t surprises_ = 0;
};

struct TrainOptions {
  double stop = 0.01;  // ends when no parameter changes by more: the paper's 1 %
  int most_rounds = 500;
  // Counted besides what is seen, spread over each row as in `prior`; 0: plain Baum-Welch, whose likelihood never
  // falls.
  double prior_weight = 0;
  Hmm const* prior = nullptr;  // null: evenly
};

struct Trained {
  Hmm hmm;
  int rounds = 0;
  bool converged = false;
  std::vector<double> log_likelihoods;  // before each round, of all sequences together
};

// Baum-Welch over several sequences, none empty, from `start`. A state that nobody visits keeps its rows.
Result<Trained> train(Hmm start, std::vector<Symbols> const& sequences, TrainOptions const& options = {});

}  // namespace vmsrs::predict
