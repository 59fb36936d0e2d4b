// What the CPU forecast makes of a recording, for a grid of Q and R: bench/detect.py --sensitivity.
//
// Standard input: one CPU use (0 to 1) a line, at equal distances of time. Standard output: JSON, one object for each
// pair: rmse of the forecast against the next value, and how often the paper's step period would have changed.
#include <fmt/format.h>

#include <cmath>
#include <iostream>
#include <vector>

#include "runtime/detect/kalman.hpp"
#include "runtime/detect/period.hpp"

int main() {
  namespace detect = vmsrs::runtime::detect;
  std::vector<double> trace;
  for (double use = 0; std::cin >> use;) trace.push_back(use);
  if (trace.size() < 10) {
    fmt::print(stderr, "kalman_grid: at least 10 values are needed\n");
    return 2;
  }
  detect::PeriodPolicy const steps{detect::PeriodMode::kSteps, 0};
  char const* separator = "[\n";
  for (int q = 1; q <= 7; ++q) {
    for (int r = 0; r <= 5; ++r) {
      double const noise_q = 6 * std::pow(10, -q), noise_r = std::pow(10, -r);
      detect::CpuForecast forecast(noise_q, noise_r);
      double sum = 0, period = 0, lag = 0;
      int changes = 0;
      for (size_t i = 0; i + 1 < trace.size(); ++i) {
        double const next = forecast.measured(trace[i]);
        double const now = steps.seconds(next);
        changes += i > 0 && now != period ? 1 : 0;
        period = now;
        sum += (next - trace[i + 1]) * (next - trace[i + 1]);
        lag += std::abs(next - trace[i + 1]);
      }
      auto const n = static_cast<double>(trace.size() - 1);
      fmt::print(
          "{}{{\"q_exponent\": {}, \"r_exponent\": {}, \"ratio\": {:.6g}, \"rmse\": {:.6f}, \"mean_error\": {:.6f}, "
          "\"changes_per_100\": {:.3f}}}",
          separator, q, r, noise_q / noise_r, std::sqrt(sum / n), lag / n, 100.0 * changes / n);
      separator = ",\n";
    }
  }
  fmt::print("]\n");
  return 0;
}
