// links: vmsrs_detect
// The Kalman filter against closed forms, the period's policies, and the CPU forecast.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "runtime/detect/kalman.hpp"
#include "runtime/detect/period.hpp"
#include "runtime/detect/proc.hpp"

namespace {

using namespace vmsrs::runtime::detect;

// The covariance of the scalar filter settles where P = P R / (P + R) + Q before the update: P = (Q + √(Q² + 4QR)) / 2.
TEST(DetectKalman, SettlesAtTheRiccatiEquationsSolution) {
  for (double const q : {1e-6, 1e-3, 1e-1}) {
    for (double const r : {1e-4, 1e-2, 1.0}) {
      KalmanFilter<1, 1> filter;
      filter.Q(0, 0) = q, filter.R(0, 0) = r;
      for (int i = 0; i < 20'000; ++i) {
        filter.predict();
        filter.update(Eigen::Matrix<double, 1, 1>{0.5});
      }
      filter.predict();
      double const expected = (q + std::sqrt(q * q + 4 * q * r)) / 2;
      EXPECT_NEAR(filter.P(0, 0), expected, expected * 1e-9) << q << ' ' << r;
    }
  }
}

// With Q = 0 and P(0) huge it is the mean of what was measured.
TEST(DetectKalman, WithoutProcessNoiseItIsTheMean) {
  KalmanFilter<1, 1> filter;
  filter.Q(0, 0) = 0, filter.R(0, 0) = 1, filter.P(0, 0) = 1e8;
  std::mt19937 random(1);
  std::normal_distribution<double> noise(0.4, 0.1);
  double sum = 0;
  for (int n = 1; n <= 500; ++n) {
    double const z = noise(random);
    sum += z;
    filter.predict();
    filter.update(Eigen::Matrix<double, 1, 1>{z});
    ASSERT_NEAR(filter.x(0), sum / n, 1e-6);
  }
}

// Place and speed, of which the place is measured: the speed is found.
TEST(DetectKalman, TwoStatesFindARamp) {
  KalmanFilter<2, 1> filter;
  filter.F << 1, 1, 0, 1;
  filter.H << 1, 0;
  filter.Q = Eigen::Matrix2d::Identity() * 1e-8;
  filter.R(0, 0) = 1e-4;
  for (int i = 0; i < 200; ++i) {
    filter.predict();
    filter.update(Eigen::Matrix<double, 1, 1>{0.1 + 0.003 * i});
  }
  EXPECT_NEAR(filter.x(1), 0.003, 1e-4);
}

TEST(DetectKalman, TheForecastStartsWithTheFirstMeasurementAndStaysInRange) {
  CpuForecast forecast;
  EXPECT_EQ(forecast.measured(0.73), 0.73);
  CpuForecast busy;
  for (int i = 0; i < 100; ++i) EXPECT_LE(busy.measured(1.0), 1.0);
  EXPECT_NEAR(busy.forecast(), 1.0, 1e-9);
}

TEST(DetectKalman, NoiseAroundAStepDoesNotSwitchThePeriodToAndFro) {
  std::mt19937 random(7);
  std::normal_distribution<double> noise(0.45, 0.1);  // often above 50 %, the mean below
  CpuForecast forecast;
  PeriodPolicy const steps{PeriodMode::kSteps, 0};
  int raw = 0, filtered = 0;
  double raw_before = 0.5, filtered_before = 0.5;
  for (int i = 0; i < 2000; ++i) {
    double const z = std::clamp(noise(random), 0.0, 1.0);
    double const a = steps.seconds(z), b = steps.seconds(forecast.measured(z));
    if (i > 100) raw += a != raw_before, filtered += b != filtered_before;
    raw_before = a, filtered_before = b;
  }
  EXPECT_GT(raw, 500);
  EXPECT_LT(filtered * 5, raw);
}

TEST(DetectPeriod, StepsAreThePapers) {
  PeriodPolicy const steps{PeriodMode::kSteps, 0};
  EXPECT_EQ(steps.seconds(0), 0.5);
  EXPECT_EQ(steps.seconds(0.4999), 0.5);
  EXPECT_EQ(steps.seconds(0.5), 2);
  EXPECT_EQ(steps.seconds(0.7999), 2);
  EXPECT_EQ(steps.seconds(0.8), 5);
  EXPECT_EQ(steps.seconds(1), 5);
}

TEST(DetectPeriod, ContinuousGrowsWithoutAJump) {
  PeriodPolicy const curve{PeriodMode::kContinuous, 0};
  EXPECT_DOUBLE_EQ(curve.seconds(0), 0.25);
  EXPECT_NEAR(curve.seconds(1), 5, 1e-9);
  for (double use = 0; use < 1; use += 0.01) {
    EXPECT_GT(curve.seconds(use + 0.01), curve.seconds(use));
    EXPECT_LT(curve.seconds(use + 0.01) / curve.seconds(use), 1.04);
  }
  EXPECT_NEAR(curve.seconds(2), 5, 1e-9);
  EXPECT_NEAR(curve.seconds(std::numeric_limits<double>::quiet_NaN()), 5, 1e-9);
}

TEST(DetectPeriod, OptionsAreReadOrRefused) {
  EXPECT_EQ(PeriodPolicy::parse("steps")->mode, PeriodMode::kSteps);
  EXPECT_TRUE(PeriodPolicy::parse("continuous")->by_deadline());
  EXPECT_EQ(PeriodPolicy::parse("fixed:0.5")->seconds(1), 0.5);
  EXPECT_EQ(PeriodPolicy::parse("fixed:3")->name(), "fixed:3");
  for (char const* bad :
       {"", "step", "fixed", "fixed:", "fixed:0", "fixed:-1", "fixed:1x", "fixed:nan", "fixed:4000"}) {
    auto const parsed = PeriodPolicy::parse(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_NE(parsed.error().message.find("--period"), std::string::npos);
  }
}

TEST(DetectProc, OnlyTheVeryProcessIsAlive) {
  ProcessId const own = own_process_id();
  EXPECT_TRUE(is_alive(own));
  EXPECT_FALSE(is_alive(own + 1)) << "the pid again, another start";
  EXPECT_TRUE(open_process(own));
  EXPECT_FALSE(open_process(own + 1));
  EXPECT_FALSE(process_state(0x7fff'fff0));
}

}  // namespace
