// links: vmsrs_predict
// The hidden Markov model against what it must be by definition: sums over all paths, written out.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "runtime/predict/hidden_markov.hpp"

namespace vmsrs::predict {
namespace {

// P(path, symbols) by the definition of the model, in long double; no recursion in common with the code under test.
long double joint(Hmm const& hmm, std::vector<int> const& path, Symbols const& symbols) {
  long double p = hmm.initial(path[0]);
  for (size_t t = 0; t < path.size(); ++t) {
    if (t > 0) p *= hmm.transition(path[t - 1], path[t]);
    p *= hmm.emission(path[t], symbols[t]);
  }
  return p;
}

void for_all_paths(int states, size_t length, std::function<void(std::vector<int> const&)> const& f) {
  std::vector<int> path(length, 0);
  for (;;) {
    f(path);
    size_t at = 0;
    while (at < length && ++path[at] == states) path[at++] = 0;
    if (at == length) return;
  }
}

struct Enumerated {
  long double likelihood = 0;
  Eigen::MatrixXd posterior;  // P(x_t = i | all symbols)
  Eigen::VectorXd filtered;   // P(x_T = i | all symbols): the last row
  Eigen::VectorXd next;       // P(x_{T+1} = i | all symbols)
  Eigen::VectorXd best;       // max over paths that end in i, normalised
  Hmm expected;               // one round of Baum-Welch by counting in all paths
};

Enumerated enumerate(Hmm const& hmm, Symbols const& symbols) {
  int const n = hmm.states();
  auto const length = static_cast<Eigen::Index>(symbols.size());
  Enumerated e{0,
               Eigen::MatrixXd::Zero(length, n),
               {},
               Eigen::VectorXd::Zero(n),
               Eigen::VectorXd::Zero(n),
               {Eigen::VectorXd::Zero(n), Eigen::MatrixXd::Zero(n, n), Eigen::MatrixXd::Zero(n, hmm.symbols())}};
  for_all_paths(n, symbols.size(), [&](std::vector<int> const& path) {
    auto const p = static_cast<double>(joint(hmm, path, symbols));
    e.likelihood += p;
    e.expected.initial(path[0]) += p;
    for (Eigen::Index t = 0; t < length; ++t) {
      auto const at = static_cast<size_t>(t);
      e.posterior(t, path[at]) += p;
      e.expected.emission(path[at], symbols[at]) += p;
      if (t > 0) e.expected.transition(path[at - 1], path[at]) += p;
    }
    e.best(path.back()) = std::max(e.best(path.back()), p);
  });
  e.posterior /= static_cast<double>(e.likelihood);
  e.filtered = e.posterior.row(length - 1).transpose();
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < n; ++i) e.next(j) += e.filtered(i) * hmm.transition(i, j);
  }
  e.best /= e.best.sum();
  e.expected.initial /= e.expected.initial.sum();
  for (int i = 0; i < n; ++i) {
    e.expected.transition.row(i) /= e.expected.transition.row(i).sum();
    e.expected.emission.row(i) /= e.expected.emission.row(i).sum();
  }
  return e;
}

// Symbol 0 … 2 as a noisy sign of the state, which seldom changes.
Hmm telling() {
  Hmm hmm{Eigen::VectorXd(3), Eigen::MatrixXd(3, 3), Eigen::MatrixXd(3, 4)};
  hmm.initial << 0.6, 0.3, 0.1;
  hmm.transition << 0.90, 0.08, 0.02, 0.10, 0.80, 0.10, 0.05, 0.05, 0.90;
  hmm.emission << 0.80, 0.10, 0.05, 0.05, 0.10, 0.75, 0.10, 0.05, 0.05, 0.05, 0.10, 0.80;
  return hmm;
}

TEST(PredictHiddenMarkov, AgreesWithTheSumOverAllPaths) {
  Rng rng(7);
  for (int round = 0; round < 30; ++round) {
    int const states = 1 + round % 4, symbols = 2 + round % 3;
    size_t const length = 1 + static_cast<size_t>(round % 7);
    Hmm const hmm = random_hmm(states, symbols, rng);
    Symbols const seen = sample(hmm, length, rng).symbols;
    Enumerated const truth = enumerate(hmm, seen);
    EXPECT_NEAR(log_likelihood(hmm, seen), static_cast<double>(std::log(truth.likelihood)), 1e-10);
    auto const posterior = smoothed(hmm, seen);
    ASSERT_TRUE(posterior);
    EXPECT_LT((*posterior - truth.posterior).cwiseAbs().maxCoeff(), 1e-12);
    Filter all(hmm), best(hmm, Past::kBestPath);
    for (int const symbol : seen) {
      all.observe(symbol);
      best.observe(symbol);
    }
    EXPECT_LT((all.now() - truth.filtered).cwiseAbs().maxCoeff(), 1e-12);
    EXPECT_LT((all.ahead() - truth.next).cwiseAbs().maxCoeff(), 1e-12);
    EXPECT_LT((best.now() - truth.best).cwiseAbs().maxCoeff(), 1e-12);
    EXPECT_NEAR(best.ahead(3).sum(), 1, 1e-12);
  }
}

TEST(PredictHiddenMarkov, OneRoundOfTrainingIsWhatCountingInAllPathsGives) {
  Rng rng(11);
  for (int round = 0; round < 20; ++round) {
    Hmm const hmm = random_hmm(3, 3, rng);
    Symbols const seen = sample(hmm, 7, rng).symbols;
    auto const trained = train(hmm, {seen}, {.stop = 0, .most_rounds = 1});
    ASSERT_TRUE(trained);
    Hmm const truth = enumerate(hmm, seen).expected;
    EXPECT_LT((trained->hmm.initial - truth.initial).cwiseAbs().maxCoeff(), 1e-12);
    EXPECT_LT((trained->hmm.transition - truth.transition).cwiseAbs().maxCoeff(), 1e-12);
    EXPECT_LT((trained->hmm.emission - truth.emission).cwiseAbs().maxCoeff(), 1e-12);
  }
}

// Algorithm 1 as it is printed, line 12: C(i,j) = sum over k of F(i,T) A(k,j). What it forecasts does not depend on
// what was seen; the corrected line's does. docs/predictor.md says which line is meant.
TEST(PredictHiddenMarkov, ThePrintedAlgorithmForgetsTheObservationsAndTheCorrectedDoesNot) {
  Hmm const hmm = telling();
  auto const printed = [&](Symbols const& seen) {
    Eigen::VectorXd f = hmm.initial.cwiseProduct(hmm.emission.col(seen[0]));
    for (size_t t = 1; t < seen.size(); ++t) {
      Eigen::VectorXd next(3);
      for (int j = 0; j < 3; ++j) {
        next(j) = f.cwiseProduct(hmm.transition.col(j)).maxCoeff() * hmm.emission(j, seen[t]);
      }
      f = next;
    }
    Eigen::VectorXd p = Eigen::VectorXd::Zero(3);
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) {
        for (int k = 0; k < 3; ++k) p(j) += f(i) * hmm.transition(k, j);
      }
    }
    return Eigen::VectorXd(p / p.sum());
  };
  auto const corrected = [&](Symbols const& seen) {
    Filter filter(hmm, Past::kBestPath);
    for (int const symbol : seen) filter.observe(symbol);
    return filter.ahead();
  };
  Symbols const well{0, 0, 0, 0, 0, 0}, ill{0, 1, 1, 3, 3, 3};
  EXPECT_LT((printed(well) - printed(ill)).cwiseAbs().maxCoeff(), 1e-12);
  EXPECT_GT(corrected(well)(0), 0.8);
  EXPECT_GT(corrected(ill)(2), 0.8);
}

TEST(PredictHiddenMarkov, TheLikelihoodNeverFallsInTraining) {
  Rng rng(3);
  Hmm const truth = telling();
  std::vector<Symbols> sequences;
  for (int i = 0; i < 5; ++i) sequences.push_back(sample(truth, 400, rng).symbols);
  for (int start = 0; start < 3; ++start) {
    auto const trained = train(random_hmm(3, 4, rng), sequences, {.stop = 1e-6, .most_rounds = 100});
    ASSERT_TRUE(trained);
    auto const& l = trained->log_likelihoods;
    for (size_t i = 1; i < l.size(); ++i) ASSERT_GE(l[i], l[i - 1] - 1e-8) << "round " << i;
    ASSERT_TRUE(check(trained->hmm));
    EXPECT_GT(l.back(), l.front());
  }
}

TEST(PredictHiddenMarkov, TheParametersOfAKnownModelAreFoundAgain) {
  Rng rng(5);
  Hmm const truth = telling();
  std::vector<Symbols> sequences;
  for (int i = 0; i < 6; ++i) sequences.push_back(sample(truth, 2000, rng).symbols);
  Trained best;
  for (int start = 0; start < 2; ++start) {
    auto trained = train(random_hmm(3, 4, rng), sequences, {.stop = 5e-4, .most_rounds = 200});
    ASSERT_TRUE(trained);
    if (start > 0 && trained->log_likelihoods.back() < best.log_likelihoods.back()) continue;
    best = std::move(*trained);
  }
  // Baum-Welch numbers the states as it likes: the permutation that fits best counts.
  std::vector<int> order{0, 1, 2};
  double least = 1;
  do {
    double greatest = 0;
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) {
        greatest = std::max(greatest, std::abs(best.hmm.transition(order[i], order[j]) - truth.transition(i, j)));
      }
      greatest = std::max(greatest, (best.hmm.emission.row(order[i]) - truth.emission.row(i)).cwiseAbs().maxCoeff());
    }
    least = std::min(least, greatest);
  } while (std::ranges::next_permutation(order).found);
  EXPECT_LT(least, 0.04);
}

TEST(PredictHiddenMarkov, TheOnePercentRuleEndsTraining) {
  Rng rng(9);
  std::vector<Symbols> const sequences{sample(telling(), 3000, rng).symbols};
  Hmm const start = random_hmm(3, 4, rng);
  auto const trained = train(start, sequences);
  ASSERT_TRUE(trained);
  EXPECT_TRUE(trained->converged);
  auto const once_more = train(trained->hmm, sequences, {.stop = 0, .most_rounds = 1});
  EXPECT_LT((once_more->hmm.transition - trained->hmm.transition).cwiseAbs().maxCoeff(), 0.015);
  auto const cut = train(start, sequences, {.stop = 0, .most_rounds = 3});
  EXPECT_FALSE(cut->converged);
  EXPECT_EQ(cut->rounds, 3);
}

TEST(PredictHiddenMarkov, AMillionSymbolsNeitherUnderflowNorDrift) {
  Rng rng(13);
  Hmm const hmm = random_hmm(9, 81, rng);
  auto const sampled = sample(hmm, 1'000'000, rng);
  double const likelihood = log_likelihood(hmm, sampled.symbols);
  ASSERT_TRUE(std::isfinite(likelihood));
  // The likelihood of the whole is that of its parts, where a part begins with what the filter knows.
  double parts = 0;
  Hmm part = hmm;
  for (size_t begin = 0; begin < sampled.symbols.size(); begin += 100'000) {
    std::span const stretch(sampled.symbols.data() + begin, 100'000);
    parts += log_likelihood(part, stretch);
    Filter filter(part);
    for (int const symbol : stretch) filter.observe(symbol);
    part.initial = filter.ahead();
  }
  EXPECT_NEAR(parts / likelihood, 1, 1e-9);
  auto const trained = train(hmm, {sampled.symbols}, {.stop = 0, .most_rounds = 1});
  ASSERT_TRUE(trained);
  ASSERT_TRUE(check(trained->hmm));
  EXPECT_NEAR(trained->log_likelihoods[0], likelihood, std::abs(likelihood) * 1e-12);
  // The model that made the sequence is near where training on it ends.
  EXPECT_LT((trained->hmm.transition - hmm.transition).cwiseAbs().maxCoeff(), 0.02);
}

TEST(PredictHiddenMarkov, ASymbolThatIsRuledOutIsASurpriseAndNothingElse) {
  Hmm hmm{Eigen::VectorXd(2), Eigen::MatrixXd(2, 2), Eigen::MatrixXd(2, 3)};
  hmm.initial << 0.5, 0.5;
  hmm.transition << 0.9, 0.1, 0.2, 0.8;
  hmm.emission << 0.9, 0.1, 0, 0.1, 0.9, 0;
  Filter filter(hmm);
  filter.observe(0);
  Eigen::VectorXd const expected = filter.ahead();
  filter.observe(2);
  EXPECT_EQ(filter.surprises(), 1U);
  EXPECT_LT((filter.now() - expected).cwiseAbs().maxCoeff(), 1e-12);
  EXPECT_EQ(log_likelihood(hmm, Symbols{0, 2}), -std::numeric_limits<double>::infinity());
  EXPECT_FALSE(smoothed(hmm, Symbols{0, 2}));
  EXPECT_FALSE(train(hmm, {{0, 2}}));
  // Imagined visits make it possible in what is trained on other data.
  auto const trained = train(hmm, {{0, 1, 0}}, {.most_rounds = 1, .prior_weight = 1});
  ASSERT_TRUE(trained);
  EXPECT_GT(trained->hmm.emission.minCoeff(), 0);
}

TEST(PredictHiddenMarkov, ABadModelIsRefusedWithItsReason) {
  Hmm hmm = telling();
  EXPECT_TRUE(check(hmm));
  hmm.transition(1, 1) = 0.7;
  EXPECT_NE(check(hmm).error().message.find("row 1 of the transition"), std::string::npos);
  hmm = telling();
  hmm.emission(2, 0) = -0.05;
  EXPECT_NE(check(hmm).error().message.find("row 2 of the emission"), std::string::npos);
  hmm = telling();
  hmm.initial(0) = std::nan("");
  EXPECT_FALSE(check(hmm));
  hmm = telling();
  hmm.transition.conservativeResize(3, 2);
  EXPECT_NE(check(hmm).error().message.find("fit together"), std::string::npos);
  EXPECT_FALSE(train(telling(), {}));
  EXPECT_FALSE(train(telling(), {{}}));
}

}  // namespace
}  // namespace vmsrs::predict
