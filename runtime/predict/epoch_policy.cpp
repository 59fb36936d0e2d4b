#include "runtime/predict/epoch_policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace vmsrs::predict {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

}  // namespace

double young_interval(double cost, double mtbf) {
  return std::sqrt(2 * cost * mtbf);
}

double daly_interval(double cost, double mtbf) {
  if (cost >= 2 * mtbf) return mtbf;
  double const ratio = std::sqrt(cost / (2 * mtbf));
  return young_interval(cost, mtbf) * (1 + ratio / 3 + ratio * ratio / 9) - cost;
}

std::string name_of(EpochPolicy const& policy) {
  return std::visit(Overloaded{[](FixedEpoch const& p) { return fmt::format("fixed {:g} ms", p.seconds * 1000); },
                               [](YoungDalyEpoch const& p) { return fmt::format("Young/Daly, MTBF {:g} s", p.mtbf); },
                               [](ThresholdEpoch const& p) {
                                 return fmt::format("threshold {:g}, {:g} or {:g} ms", p.threshold, p.shortest * 1000,
                                                    p.longest * 1000);
                               },
                               [](HazardEpoch const& p) {
                                 return fmt::format("hazard, {:g} to {:g} ms", p.shortest * 1000, p.longest * 1000);
                               }},
                    policy);
}

double epoch_length(EpochPolicy const& policy, Forecast const& forecast) {
  return std::visit(
      Overloaded{[](FixedEpoch const& p) { return p.seconds; },
                 [](YoungDalyEpoch const& p) { return daly_interval(p.cost, p.mtbf); },
                 [&](ThresholdEpoch const& p) { return forecast.trouble >= p.threshold ? p.shortest : p.longest; },
                 [&](HazardEpoch const& p) {
                   double const trouble = std::clamp(forecast.trouble, 0.0, 1.0);
                   double const rate = trouble / p.trouble_mtbf + (1 - trouble) / p.healthy_mtbf;
                   return std::clamp(daly_interval(p.cost, 1 / rate), p.shortest, p.longest);
                 }},
      policy);
}

}  // namespace vmsrs::predict
