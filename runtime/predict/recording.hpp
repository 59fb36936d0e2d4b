// Recorded metrics: what `vmsrs predict record` writes and `train` and `eval` read.
//
// A recording is text, one line a sample:
//
//   # vmsrs recording 1
//   time,cpu,memory,network,disk,health,load
//   1764292801.25,0.0612,73400320,51234,4096,normal,low
//
// time     seconds, at least 0, growing from line to line
// cpu      cores in use since the sample before (1: one core all the time)
// memory   resident bytes
// network  bytes a second received and sent in the process's network namespace
// disk     bytes a second read from and written to storage
// health   normal, abnormal, failed, or - where nobody knows
// load     low, medium, high, or -
#pragma once

#include <array>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/predict/error.hpp"
#include "runtime/predict/states.hpp"

namespace vmsrs::predict {

inline constexpr int kMetrics = 4;
inline constexpr std::array<std::string_view, kMetrics> kMetricNames{"cpu", "memory", "network", "disk"};
inline constexpr size_t kMostSamples = 10'000'000;  // of one recording

struct Sample {
  double time = 0;
  std::array<double, kMetrics> metrics{};  // finite, not negative
  std::optional<Health> health;
  std::optional<Load> load;
};

struct Recording {
  std::string name;  // where it came from, for messages and reports
  std::vector<Sample> samples;
};

// `name` stands in messages: "leak-1.csv:17: cpu: -1 is negative". At least one sample.
Result<Recording> parse_recording(std::string_view text, std::string const& name);
Result<Recording> read_recording(std::string const& path);  // "-": standard input

std::string recording_header();             // its two first lines
std::string line_of(Sample const& sample);  // with the newline

}  // namespace vmsrs::predict
