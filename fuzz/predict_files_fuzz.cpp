// The predictor's files are somebody's input: any bytes are an error, or a recording or a model that holds what its
// header promises, and that is read again as it was written.
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "runtime/predict/model.hpp"
#include "runtime/predict/predictor.hpp"

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
  using namespace vmsrs::predict;
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  if (auto const recording = parse_recording(text, "fuzzed")) {
    double before = -1;
    for (Sample const& sample : recording->samples) {
      if (!(sample.time > before)) std::abort();
      before = sample.time;
      for (double const value : sample.metrics) {
        if (!std::isfinite(value) || value < 0) std::abort();
      }
    }
    if (before < 1e9 && !parse_recording(recording_header() + line_of(recording->samples.front()), "again"))
      std::abort();
  }
  if (auto const model = parse_model(text, "fuzzed")) {
    if (!check(*model)) std::abort();
    auto const again = parse_model(to_json(*model), "again");
    if (!again || to_json(*again) != to_json(*model)) std::abort();
    Predictor predictor(*model);
    Sample sample;
    sample.metrics = {0.5, 1e8, 1e5, 1e4};
    for (int i = 0; i < 3; ++i) {
      double const trouble = predictor.observe(sample).trouble;
      if (!(trouble >= 0 && trouble <= 1)) std::abort();
    }
  }
  return 0;
}
