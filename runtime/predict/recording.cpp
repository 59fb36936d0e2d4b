#include "runtime/predict/recording.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <memory>

namespace vmsrs::predict {
namespace {

constexpr std::string_view kMagic = "# vmsrs recording ";
constexpr std::string_view kVersion = "1";
constexpr std::string_view kColumns = "time,cpu,memory,network,disk,health,load";
constexpr size_t kFields = 7;

template <size_t N, class E>
std::optional<E> named(std::array<std::string_view, N> const& names, std::string_view name) {
  auto const found = std::ranges::find(names, name);
  if (found == names.end()) return std::nullopt;
  return static_cast<E>(found - names.begin());
}

std::string_view next_line(std::string_view& text) {
  size_t const end = text.find('\n');
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// What a person sees of bytes that may be anything.
std::string shown(std::string_view text) {
  std::string out;
  for (char const c : text.substr(0, 40)) out += c >= ' ' && c < 127 ? c : '?';
  if (text.size() > 40) out += "...";
  return '"' + out + '"';
}

Result<double> number(std::string_view field, std::string_view column) {
  double value = 0;
  auto const [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || end != field.data() + field.size() || !std::isfinite(value)) {
    return fail(fmt::format("{}: {} is no number", column, shown(field)));
  }
  if (value < 0) return fail(fmt::format("{}: {} is negative", column, shown(field)));
  return value;
}

Result<Sample> parse_sample(std::string_view line) {
  std::array<std::string_view, kFields> fields;
  size_t n = 0;
  for (std::string_view rest = line;; ++n) {
    size_t const comma = rest.find(',');
    if (n < kFields) fields[n] = rest.substr(0, comma);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (++n != kFields) return fail(fmt::format("{} fields where {} are needed: {}", n, kFields, kColumns));
  Sample sample;
  auto const time = number(fields[0], "time");
  if (!time) return tl::unexpected(time.error());
  sample.time = *time;
  for (int m = 0; m < kMetrics; ++m) {
    auto const value = number(fields[m + 1], kMetricNames[m]);
    if (!value) return tl::unexpected(value.error());
    sample.metrics[m] = *value;
  }
  sample.health = health_named(fields[5]);
  if (!sample.health && fields[5] != "-") {
    return fail(fmt::format("health: {} is none of normal, abnormal, failed, -", shown(fields[5])));
  }
  sample.load = load_named(fields[6]);
  if (!sample.load && fields[6] != "-") {
    return fail(fmt::format("load: {} is none of low, medium, high, -", shown(fields[6])));
  }
  return sample;
}

}  // namespace

std::optional<Health> health_named(std::string_view name) {
  return named<kHealths, Health>(kHealthNames, name);
}

std::optional<Load> load_named(std::string_view name) {
  return named<kLoads, Load>(kLoadNames, name);
}

Result<Recording> parse_recording(std::string_view text, std::string const& name) {
  Recording recording{name, {}};
  std::string_view const first = next_line(text);
  if (!first.starts_with(kMagic))
    return fail(fmt::format("{}: no recording: its first line is not \"{}N\"", name, kMagic));
  if (first.substr(kMagic.size()) != kVersion) {
    return fail(fmt::format("{}: version {}; this program reads version {}", name, shown(first.substr(kMagic.size())),
                            kVersion));
  }
  if (next_line(text) != kColumns) return fail(fmt::format("{}:2: the columns are not {}", name, kColumns));
  for (size_t line = 3; !text.empty(); ++line) {
    auto const sample = parse_sample(next_line(text));
    if (!sample) return fail(fmt::format("{}:{}: {}", name, line, sample.error().message));
    if (!recording.samples.empty() && sample->time <= recording.samples.back().time) {
      return fail(fmt::format("{}:{}: time does not grow", name, line));
    }
    if (recording.samples.size() == kMostSamples) return fail(fmt::format("{}: over {} samples", name, kMostSamples));
    recording.samples.push_back(*sample);
  }
  if (recording.samples.empty()) return fail(fmt::format("{}: no sample in it", name));
  return recording;
}

Result<Recording> read_recording(std::string const& path) {
  auto const close = [](FILE* file) {
    if (file != stdin) std::fclose(file);
  };
  std::unique_ptr<FILE, decltype(close)> const file(path == "-" ? stdin : std::fopen(path.c_str(), "re"), close);
  if (file == nullptr) return fail_host(path);
  std::string text;
  std::array<char, 1 << 16> block;
  while (size_t const got = std::fread(block.data(), 1, block.size(), file.get())) {
    text.append(block.data(), got);
    if (text.size() > kMostSamples * 100) return fail(fmt::format("{}: longer than any recording", path));
  }
  if (std::ferror(file.get()) != 0) return fail_host(path);
  return parse_recording(text, path == "-" ? "standard input" : path);
}

std::string recording_header() {
  return fmt::format("{}{}\n{}\n", kMagic, kVersion, kColumns);
}

std::string line_of(Sample const& sample) {
  auto const& m = sample.metrics;
  return fmt::format("{:.3f},{:.5f},{:.0f},{:.0f},{:.0f},{},{}\n", sample.time, m[0], m[1], m[2], m[3],
                     sample.health ? kHealthNames[static_cast<size_t>(*sample.health)] : "-",
                     sample.load ? kLoadNames[static_cast<size_t>(*sample.load)] : "-");
}

}  // namespace vmsrs::predict
