// Time limits of tests: VMSRS_TIME_SCALE is a factor for machines whose processor is emulated (scripts/svm-lane).
#ifndef VMSRS_TESTS_SUPPORT_TIME_SCALE_HPP
#define VMSRS_TESTS_SUPPORT_TIME_SCALE_HPP

#include <algorithm>
#include <cstdlib>
#include <string>

namespace vmsrs_test {

// A time limit, as a word of a command.
inline std::string limit(int amount) {
  char const* const scale = std::getenv("VMSRS_TIME_SCALE");
  return std::to_string(amount * (scale == nullptr ? 1 : std::max(1, std::atoi(scale))));
}

}  // namespace vmsrs_test

#endif
