// links: vmsrs_predict
// Scores of forecasts, policies of epochs and their simulator, on cases that can be worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/predict/epoch_simulator.hpp"
#include "runtime/predict/evaluation.hpp"

namespace vmsrs::predict {
namespace {

// A letter each second: n normal, a abnormal, f failed, - unknown. An alarm where `alarms` has an x.
struct Case {
  Recording recording;
  std::vector<Forecast> forecasts;
};

Case make(std::string const& health, std::string const& alarms) {
  Case c{{"case", {}}, {}};
  for (size_t t = 0; t < health.size(); ++t) {
    Sample sample;
    sample.time = static_cast<double>(t);
    if (health[t] == 'n') sample.health = Health::kNormal;
    if (health[t] == 'a') sample.health = Health::kAbnormal;
    if (health[t] == 'f') sample.health = Health::kFailed;
    c.recording.samples.push_back(sample);
    Forecast forecast;
    forecast.alarm = alarms[t] == 'x';
    forecast.trouble = forecast.alarm ? 0.9 : 0.1;
    c.forecasts.push_back(forecast);
  }
  return c;
}

Score score(std::string const& health, std::string const& alarms) {
  auto const c = make(health, alarms);
  return evaluate(c.forecasts, c.recording, 0.5, 1);
}

TEST(PredictEvaluation, AnAlarmInTroubleIsRightAndItsLeadRunsToTheFailure) {
  Score const s = score("nnnaaaaaff", ".....xxxxx");
  EXPECT_EQ(s.failures, 1);
  EXPECT_EQ(s.predicted, 1);
  EXPECT_EQ(s.alarms_right, 1);
  EXPECT_EQ(s.alarms_false + s.alarms_late, 0);
  EXPECT_EQ(s.lead_seconds, std::vector<double>{3});
  EXPECT_EQ(s.normal_seconds, 2);
  EXPECT_EQ(s.precision(), 1);
  EXPECT_EQ(s.recall(), 1);
}

TEST(PredictEvaluation, FalseLateAndMissed) {
  Score s = score("nnnaaafff", "......xxx");
  EXPECT_EQ(s.predicted, 0);
  EXPECT_EQ(s.alarms_late, 1);
  EXPECT_EQ(s.recall(), 0);
  s = score("nnnnnnnnn", ".xx..x.x.");
  EXPECT_EQ(s.alarms_false, 3);
  EXPECT_EQ(s.failures, 0);
  EXPECT_EQ(s.precision(), 0);
  EXPECT_EQ(s.false_alarms_per_hour(), 3 * 3600 / 8.0);
  // Raised in health and still up in trouble: false, yet the failure did not come unannounced.
  s = score("nnnaaaff", ".xxxxxxx");
  EXPECT_EQ(s.alarms_false, 1);
  EXPECT_EQ(s.alarms_right, 0);
  EXPECT_EQ(s.predicted, 1);
  EXPECT_EQ(s.lead_seconds, std::vector<double>{3});
  // Two failures in one recording; an alarm of the first is none of the second.
  s = score("naaffnnaaff", ".xxxx......");
  EXPECT_EQ(s.failures, 2);
  EXPECT_EQ(s.predicted, 1);
  // What nobody labelled does not count.
  s = score("----", "xx.x");
  EXPECT_EQ(s.alarms_false + s.alarms_right + s.failures, 0);
  EXPECT_EQ(s.sample_false + s.sample_hits, 0U);
}

TEST(PredictEvaluation, EachForecastIsForTheNextSample) {
  Score const s = score("nnaaf", ".x.x.");
  // After samples 0 … 3, for 1 … 4: no/n, yes/a, no/a, yes/f.
  EXPECT_EQ(s.sample_rejections, 1U);
  EXPECT_EQ(s.sample_hits, 2U);
  EXPECT_EQ(s.sample_misses, 1U);
  EXPECT_EQ(s.sample_false, 0U);
}

TEST(PredictEvaluation, Intervals) {
  // Brown, Cai and DasGupta's formula by hand: 8 of 10.
  Interval const i = wilson(8, 10);
  EXPECT_NEAR(i.low, 0.4902, 1e-4);
  EXPECT_NEAR(i.high, 0.9433, 1e-4);
  EXPECT_EQ(wilson(0, 0).low, 0);
  EXPECT_EQ(wilson(0, 0).high, 1);
  EXPECT_LT(wilson(10, 10).low, 1);
  EXPECT_NEAR(wilson(10, 10).high, 1, 1e-12);
  std::vector<double> values;
  for (int k = 0; k < 100; ++k) values.push_back(k % 2 == 0 ? 9 : 11);
  Interval const m = mean_interval(values);  // 10 ± 1.96 · 1 / 10
  EXPECT_NEAR(m.low, 9.8, 0.05);
  EXPECT_NEAR(m.high, 10.2, 0.05);
}

TEST(PredictEpochs, YoungAndDaly) {
  EXPECT_NEAR(young_interval(0.002, 100), std::sqrt(0.4), 1e-12);
  // Daly, FGCS 22 (2006), equation 37.
  double const x = std::sqrt(5.0 / (2 * 1000));
  EXPECT_NEAR(daly_interval(5, 1000), std::sqrt(2.0 * 5 * 1000) * (1 + x / 3 + x * x / 9) - 5, 1e-9);
  EXPECT_EQ(daly_interval(10, 4), 4);
  // It is where the time lost is least: cost / e for checkpoints, (e + cost) / 2 / mtbf for work done again.
  auto const waste = [](double e) { return 5 / e + (e + 5) / 2 / 1000; };
  double const e = young_interval(5, 1000);
  EXPECT_LT(waste(e), waste(e * 0.9));
  EXPECT_LT(waste(e), waste(e * 1.1));
}

TEST(PredictEpochs, TheForecastSetsTheLength) {
  Forecast well, ill;
  ill.trouble = 1;
  EXPECT_EQ(epoch_length(FixedEpoch{0.1}, ill), 0.1);
  EXPECT_EQ(epoch_length(YoungDalyEpoch{0.001, 3600}, ill), daly_interval(0.001, 3600));
  ThresholdEpoch const threshold{0.025, 1, 0.3};
  EXPECT_EQ(epoch_length(threshold, well), 1);
  EXPECT_EQ(epoch_length(threshold, ill), 0.025);
  Forecast edge;
  edge.trouble = 0.3;
  EXPECT_EQ(epoch_length(threshold, edge), 0.025);
  HazardEpoch const hazard{0.025, 2, 0.001, 86400, 30};
  double before = epoch_length(hazard, well);
  EXPECT_EQ(before, 2);  // 13 s would be best; the bound holds
  for (int percent = 5; percent <= 100; percent += 5) {
    Forecast f;
    f.trouble = percent / 100.0;
    double const length = epoch_length(hazard, f);
    EXPECT_LE(length, before);
    EXPECT_GE(length, 0.025);
    before = length;
  }
  EXPECT_NEAR(before, daly_interval(0.001, 30), 1e-12);
}

TEST(PredictEpochs, TheSimulatorChargesAndLosesWhatCanBeWorkedOut) {
  // 100 s of health, then it fails; epochs of 0.5 s, 0.01 s for a checkpoint.
  auto const c = make(std::string(101, 'n') + "ff", std::string(103, '.'));
  EpochRun const run = simulate(FixedEpoch{0.5}, {0.01, 0}, c.recording, c.forecasts);
  EXPECT_EQ(run.seconds, 100);
  EXPECT_NEAR(run.checkpoints, 100 / 0.51, 1.01);
  EXPECT_NEAR(run.stopped, 100 * 0.01 / 0.51, 0.011);
  EXPECT_NEAR(run.strict_delay / run.seconds, 0.26, 1e-9);
  EXPECT_NEAR(run.relaxed_delay / run.seconds, 0.01 / 0.51 * 0.005, 1e-6);
  ASSERT_EQ(run.lost.size(), 1U);
  // Between checkpoints the age of the last one runs from 0.01 to 0.52 s.
  EXPECT_NEAR(run.lost[0], 0.265, 0.02);
  EXPECT_FALSE(run.predicted[0]);
  EXPECT_NEAR(run.healthy_age / run.healthy_seconds, 0.265, 0.005);  // a sudden kill: half an epoch
  // Twice the epoch, about twice the loss; a share of the epoch makes the checkpoint dearer.
  EpochRun const longer = simulate(FixedEpoch{0.25}, {0.01, 0}, c.recording, c.forecasts);
  EXPECT_LT(longer.lost[0], run.lost[0]);
  EXPECT_NEAR(simulate(FixedEpoch{0.5}, {0.01, 0.1}, c.recording, c.forecasts).stopped, 100 * 0.06 / 0.56, 0.07);
}

TEST(PredictEpochs, APredictedFailureCostsNoMoreThanAFixedShortEpoch) {
  auto const c = make(std::string(60, 'n') + std::string(20, 'a') + "fff", std::string(65, '.') + std::string(18, 'x'));
  CheckpointCost const cost{0.001, 0};
  EpochRun const adaptive = simulate(ThresholdEpoch{0.025, 1, 0.5}, cost, c.recording, c.forecasts);
  EpochRun const fixed = simulate(FixedEpoch{0.025}, cost, c.recording, c.forecasts);
  EpochRun const slow = simulate(FixedEpoch{1}, cost, c.recording, c.forecasts);
  ASSERT_EQ(adaptive.lost.size(), 1U);
  EXPECT_TRUE(adaptive.predicted[0]);
  EXPECT_NEAR(adaptive.lost[0], fixed.lost[0], 0.01 * fixed.lost[0]);
  EXPECT_GT(slow.lost[0], 10 * fixed.lost[0]);
  EXPECT_LT(adaptive.healthy_relaxed_delay, fixed.healthy_relaxed_delay / 3);
  // Unannounced it loses what a long epoch loses.
  auto const missed = make(std::string(80, 'n') + "fff", std::string(83, '.'));
  EpochRun const unlucky = simulate(ThresholdEpoch{0.025, 1, 0.5}, cost, missed.recording, missed.forecasts);
  EXPECT_FALSE(unlucky.predicted[0]);
  EXPECT_GT(unlucky.lost[0], 10 * fixed.lost[0]);
}

}  // namespace
}  // namespace vmsrs::predict
