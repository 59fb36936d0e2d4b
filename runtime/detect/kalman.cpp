#include "runtime/detect/kalman.hpp"

#include <algorithm>

namespace vmsrs::runtime::detect {

CpuForecast::CpuForecast(double q, double r) {
  filter_.Q(0, 0) = q;
  filter_.R(0, 0) = r;
}

double CpuForecast::measured(double use) {
  KalmanFilter<1, 1>::Measured const z{use};
  if (first_) {
    filter_.x = z;
    first_ = false;
  } else {
    filter_.update(z);
  }
  filter_.predict();
  forecast_ = std::clamp(filter_.x(0), 0.0, 1.0);
  return forecast_;
}

}  // namespace vmsrs::runtime::detect
