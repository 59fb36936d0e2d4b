#include "runtime/detect/period.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace vmsrs::runtime::detect {
namespace {
constexpr double kShortest = 0.25, kLongest = 5;  // kContinuous, idle and fully busy
constexpr double kLeastFixed = 0.01, kMostFixed = 3600;
}  // namespace

vmm::Result<PeriodPolicy> PeriodPolicy::parse(std::string_view text) {
  if (text == "steps") return PeriodPolicy{PeriodMode::kSteps, 0};
  if (text == "continuous") return PeriodPolicy{PeriodMode::kContinuous, 0};
  constexpr std::string_view kPrefix = "fixed:";
  if (text.starts_with(kPrefix)) {
    double seconds = 0;
    char const* const last = text.data() + text.size();
    auto const [end, error] = std::from_chars(text.data() + kPrefix.size(), last, seconds);
    if (error == std::errc() && end == last && seconds >= kLeastFixed && seconds <= kMostFixed) {
      return PeriodPolicy{PeriodMode::kFixed, seconds};
    }
  }
  return vmm::fail(vmm::Errc::kBadOption,
                   fmt::format("--period {}: steps, continuous or fixed:SECONDS is needed (0.01 to 3600)", text));
}

double PeriodPolicy::seconds(double forecast) const {
  double const use = std::clamp(std::isnan(forecast) ? 1.0 : forecast, 0.0, 1.0);
  switch (mode) {
    case PeriodMode::kFixed:
      return fixed_s;
    case PeriodMode::kSteps:
      return use < 0.5 ? 0.5 : use < 0.8 ? 2 : 5;
    case PeriodMode::kContinuous:
      return kShortest * std::pow(kLongest / kShortest, use);
  }
  return kShortest;
}

std::string PeriodPolicy::name() const {
  switch (mode) {
    case PeriodMode::kSteps:
      return "steps";
    case PeriodMode::kContinuous:
      return "continuous";
    case PeriodMode::kFixed:
      return fmt::format("fixed:{}", fixed_s);
  }
  return "?";
}

}  // namespace vmsrs::runtime::detect
