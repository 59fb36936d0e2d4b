// The Kalman filter that foretells the host's CPU use (paper 000, formulas 6 and 7).
//
// The paper's state is one number that stays as it is (F = H = I = 1, B = 0, x(0|0) the first measurement, P(0|0) = 1).
// It gives Q as "6e-" and R as "1e-": the exponents were lost in print. Ours are from a sensitivity plot
// (bench/run detect --sensitivity, docs/detector.md): only Q/R matters for the scalar filter once it has settled.
#pragma once

#include <Eigen/Core>
#include <Eigen/LU>

namespace vmsrs::runtime::detect {

// N: numbers in the state, M: numbers measured at a time. All matrices as the paper names them.
template <int N, int M>
class KalmanFilter {
 public:
  using State = Eigen::Matrix<double, N, 1>;
  using Measured = Eigen::Matrix<double, M, 1>;
  using Square = Eigen::Matrix<double, N, N>;

  Square F = Square::Identity();                                            // how the state goes on by itself
  Eigen::Matrix<double, M, N> H = Eigen::Matrix<double, M, N>::Identity();  // what of it is measured
  Square Q = Square::Zero();                                                // covariance of what drives the state
  Eigen::Matrix<double, M, M> R = Eigen::Matrix<double, M, M>::Identity();  // covariance of the measurement's noise
  State x = State::Zero();                                                  // the estimate…
  Square P = Square::Identity();                                            // …and its covariance

  // Formula 6: from k-1|k-1 to k|k-1. `control`: B u(k).
  void predict(State const& control = State::Zero()) {
    x = F * x + control;
    P = F * P * F.transpose() + Q;
  }
  // Formula 7: from k|k-1 to k|k.
  void update(Measured const& z) {
    auto const K = (P * H.transpose() * (H * P * H.transpose() + R).inverse()).eval();
    x += K * (z - H * x);
    P = (Square::Identity() - K * H) * P;
  }
};

inline constexpr double kProcessNoise = 6e-4, kMeasurementNoise = 1e-2;  // Q and R, see above

// CPU use between 0 and 1. Not thread-safe.
class CpuForecast {
 public:
  explicit CpuForecast(double q = kProcessNoise, double r = kMeasurementNoise);
  // Takes a measurement; returns the forecast for the next period, between 0 and 1.
  double measured(double use);
  [[nodiscard]] double forecast() const { return forecast_; }

 private:
  KalmanFilter<1, 1> filter_;
  bool first_ = true;
  double forecast_ = 0;
};

}  // namespace vmsrs::runtime::detect
