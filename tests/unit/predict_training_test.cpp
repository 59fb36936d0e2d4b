// links: vmsrs_predict
// From recordings to a model that names its states, and the predictor that runs on it.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "runtime/predict/evaluation.hpp"
#include "runtime/predict/training.hpp"

namespace vmsrs::predict {
namespace {

// A guest that is made up: load moves CPU, network and disk; trouble takes memory and CPU away from the load, then it
// fails. `quiet` samples of health come first.
Recording made_up(uint64_t seed, size_t quiet, size_t trouble, size_t failed) {
  Rng rng(seed);
  auto const noise = [&rng](double width) { return width * (static_cast<double>(rng() % 2001) / 1000 - 1); };
  Recording recording{"made-up", {}};
  int load = 1;
  for (size_t t = 0; t < quiet + trouble + failed; ++t) {
    if (rng() % 25 == 0) load = static_cast<int>(rng() % 3);
    Sample sample;
    sample.time = static_cast<double>(t);
    sample.health = t < quiet ? Health::kNormal : t < quiet + trouble ? Health::kAbnormal : Health::kFailed;
    sample.load = static_cast<Load>(load);
    double const sick = sample.health == Health::kNormal ? 0 : 1, dead = sample.health == Health::kFailed ? 1 : 0;
    double const work = (1 + load) * (1 - dead);
    sample.metrics = {0.1 * work + 0.3 * sick + noise(0.03) + 0.03, 100e6 + 50e6 * sick + noise(5e6),
                      1e5 * work * (1 - 0.5 * sick) + noise(2e4) + 2e4, 1e4 * work + noise(3e3) + 3e3};
    recording.samples.push_back(sample);
  }
  return recording;
}

std::vector<Recording> made_up_runs(uint64_t seed, int count) {
  std::vector<Recording> runs;
  for (int i = 0; i < count; ++i) runs.push_back(made_up(seed + static_cast<uint64_t>(i), 300, 30, 15));
  return runs;
}

TEST(PredictDiscretiser, TheFormulaNumbersAllLevelsWithoutGap) {
  Levels const counts{3, 2, 3, 2};
  std::set<int> seen;
  Levels levels;
  for (levels[0] = 0; levels[0] < 3; ++levels[0]) {
    for (levels[1] = 0; levels[1] < 2; ++levels[1]) {
      for (levels[2] = 0; levels[2] < 3; ++levels[2]) {
        for (levels[3] = 0; levels[3] < 2; ++levels[3]) {
          // As the paper writes it: C f(M) f(N) f(D) + M f(N) f(D) + N f(D) + D.
          EXPECT_EQ(index_of(levels, counts), levels[0] * 2 * 3 * 2 + levels[1] * 3 * 2 + levels[2] * 2 + levels[3]);
          seen.insert(index_of(levels, counts));
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), 36U);
  EXPECT_EQ(*seen.rbegin(), 35);
  EXPECT_EQ(indices(counts), 36);
}

TEST(PredictDiscretiser, LevelsAreAgainstTheHistory) {
  std::array<Scale, kMetrics> scales;
  scales.fill({3, 100, 10, 1, 2});
  scales[3] = {2, 100, 10, 1, 1};
  Discretiser d(scales);
  Sample sample;
  sample.metrics = {89, 91, 119, 99};
  EXPECT_EQ(d.levels(sample), (Levels{0, 1, 1, 0}));
  sample.metrics = {90, 121, 100, 100};
  EXPECT_EQ(d.levels(sample), (Levels{1, 2, 1, 1}));
  EXPECT_EQ(d.symbols(), 54);
  // Slow growth becomes usual; what was trouble does not.
  Discretiser sick = d;
  double value = 100;
  for (int t = 0; t < 3000; ++t) {
    value += 0.01;
    sample.metrics.fill(value);
    EXPECT_EQ(d.levels(sample)[0], 1) << t;
    d.learn(sample, 1);
    sick.learn(sample, 0);
  }
  EXPECT_EQ(sick.levels(sample)[0], 2);
  EXPECT_EQ(sick.mean(0), 100);
}

TEST(PredictTraining, ScalesTellTroubleFromHealth) {
  auto const scales = fit_scales(made_up_runs(1, 4), {3, 3, 3, 2});
  ASSERT_TRUE(scales);
  EXPECT_NEAR((*scales)[1].mean, 100e6, 1e6);
  EXPECT_NEAR((*scales)[1].deviation, 2.9e6, 0.5e6);  // of an even distribution over 10e6
  EXPECT_EQ((*scales)[3].levels, 2);
  // Healthy memory is never high, sick memory always.
  Discretiser d(*scales);
  for (Sample const& s : made_up(99, 200, 50, 0).samples) {
    EXPECT_EQ(d.levels(s)[1] == 2, s.health == Health::kAbnormal);
  }
}

TEST(PredictTraining, BothStartsLearnToForecastAndToNameTheirStates) {
  auto const runs = made_up_runs(1, 6), others = made_up_runs(1000, 6);
  for (Start const start : {Start::kLabels, Start::kRandom}) {
    auto const outcome = train_model(runs, {.start = start, .restarts = 4});
    ASSERT_TRUE(outcome) << outcome.error().message;
    ASSERT_TRUE(check(outcome->model));
    EXPECT_TRUE(outcome->trained.converged);
    Score score;
    for (Recording const& run : others) score.add(evaluate(outcome->model, run));
    EXPECT_EQ(score.failures, 6);
    EXPECT_EQ(score.predicted, 6);
    EXPECT_EQ(score.alarms_false, 0);
    EXPECT_GT(score.sample_precision(), 0.95);
    EXPECT_GT(score.sample_recall(), 0.9);
    for (double const lead : score.lead_seconds) EXPECT_GE(lead, 25);
    std::set<Health> named;
    for (int i = 0; i < kStates; ++i) named.insert(outcome->model.name(i).health);
    EXPECT_TRUE(named.contains(Health::kNormal) &&
                (named.contains(Health::kAbnormal) || named.contains(Health::kFailed)));
  }
}

TEST(PredictTraining, NamesFollowThePermutationOfTheStates) {
  auto const runs = made_up_runs(1, 4);
  auto const outcome = train_model(runs, {});
  ASSERT_TRUE(outcome);
  Hmm const& hmm = outcome->model.hmm;
  std::vector<Symbols> sequences;
  for (Recording const& run : runs) sequences.push_back(symbols_of(run, outcome->model.scales));
  Eigen::PermutationMatrix<Eigen::Dynamic> shuffle(kStates);
  for (int i = 0; i < kStates; ++i) shuffle.indices()(i) = (i * 4 + 2) % kStates;
  Hmm const shuffled{shuffle * hmm.initial, shuffle * hmm.transition * shuffle.transpose(), shuffle * hmm.emission};
  auto const meaning = meaning_of(hmm, runs, sequences), other = meaning_of(shuffled, runs, sequences);
  ASSERT_TRUE(meaning && other);
  EXPECT_LT((shuffle * *meaning - *other).cwiseAbs().maxCoeff(), 1e-9);
  EXPECT_GT((*meaning - *other).cwiseAbs().maxCoeff(), 0.1);
}

TEST(PredictTraining, WhatCannotTeachIsRefused) {
  auto healthy = made_up(1, 100, 0, 0);
  EXPECT_EQ(train_model({healthy}, {}).error().message,
            "no sample is labelled abnormal or failed: there is no trouble to learn from");
  auto sick = made_up(1, 0, 100, 10);
  EXPECT_EQ(train_model({sick}, {}).error().message, "no sample is labelled normal: there is nothing that is usual");
  for (Sample& sample : healthy.samples) sample.load.reset();
  EXPECT_FALSE(train_model({healthy, sick}, {}).error().message.empty());
}

TEST(PredictPredictor, AlarmsNeedConfirmationAndEndAfterCalm) {
  auto const outcome = train_model(made_up_runs(1, 6), {});
  ASSERT_TRUE(outcome);
  Predictor predictor(outcome->model, {.threshold = 0.5, .confirm = 3, .clear = 5});
  auto const run = made_up(2000, 100, 40, 0);
  Forecast forecast;
  for (size_t t = 0; t < 100; ++t) forecast = predictor.observe(run.samples[t]);
  EXPECT_FALSE(forecast.alarm);
  EXPECT_LT(forecast.trouble, 0.2);
  double sum = 0;
  for (double const p : forecast.states) sum += p;
  EXPECT_NEAR(sum, 1, 1e-9);
  int until_alarm = 0;
  for (size_t t = 100; !forecast.alarm && t < 140; ++t, ++until_alarm) forecast = predictor.observe(run.samples[t]);
  EXPECT_TRUE(forecast.alarm);
  EXPECT_GE(until_alarm, 3);
  EXPECT_LE(until_alarm, 6);
  int until_calm = 0;
  for (size_t t = 0; forecast.alarm && t < 100; ++t, ++until_calm) {
    Sample well = run.samples[t];
    forecast = predictor.observe(well);
  }
  EXPECT_FALSE(forecast.alarm);
  EXPECT_GE(until_calm, 5);
  EXPECT_LE(until_calm, 15);
}

TEST(PredictPredictor, RetrainingFollowsTheGuestAndKeepsWhatItDidNotSee) {
  auto const runs = made_up_runs(1, 6);
  auto const outcome = train_model(runs, {});
  ASSERT_TRUE(outcome);
  Predictor predictor(outcome->model, {.remember = 1000, .retrain_weight = 20});
  EXPECT_EQ(*predictor.retrain(), 0);  // nothing was seen
  // A guest whose disk is busier than the model knows.
  auto healthy = made_up(3000, 5000, 0, 0);
  for (Sample& sample : healthy.samples) sample.metrics[3] *= 1.3;
  auto const symbols = symbols_of(healthy, outcome->model.scales);
  std::span const last(symbols.data() + 4000, 1000);
  double const before = log_likelihood(predictor.model().hmm, last);
  for (size_t t = 0; t < healthy.samples.size(); ++t) {
    predictor.observe(healthy.samples[t]);
    if (t % 500 != 499) continue;
    auto const change = predictor.retrain();
    ASSERT_TRUE(change);
    EXPECT_GT(*change, 0);
  }
  EXPECT_GT(log_likelihood(predictor.model().hmm, last), before);
  ASSERT_TRUE(check(predictor.model()));
  Score score;
  for (auto const& run : made_up_runs(1000, 6)) score.add(evaluate(predictor.model(), run));
  EXPECT_EQ(score.predicted, 6);
  EXPECT_LE(score.alarms_false, 1);
}

}  // namespace
}  // namespace vmsrs::predict
