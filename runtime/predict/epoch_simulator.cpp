#include "runtime/predict/epoch_simulator.hpp"

#include <algorithm>

namespace vmsrs::predict {
namespace {

// The integral over (begin, end] of the time since the last checkpoint, while checkpoints follow at `epoch` and each
// takes `cost`; moves `last` (the moment that the last finished checkpoint stands for) and `next` (when the next one
// begins). One second of a recording is thousands of epochs at most: each is walked through.
struct Epochs {
  double last = 0, next = 0;

  struct Second {
    double age = 0;  // integral of the age of the last finished checkpoint
    double checkpoints = 0, stopped = 0;
  };

  Second pass(double begin, double end, double epoch, double cost) {
    Second second;
    double at = begin;
    while (at < end) {
      double const finished = next + cost;
      double const until = std::min(finished, end);
      second.age += (until - at) * ((at + until) / 2 - last);
      second.stopped += std::max(0.0, until - std::max(at, next));
      at = until;
      if (finished <= end) {
        ++second.checkpoints;
        last = next;
        next = finished + epoch;
      }
    }
    return second;
  }
};

}  // namespace

void EpochRun::add(EpochRun const& other) {
  seconds += other.seconds;
  healthy_seconds += other.healthy_seconds;
  checkpoints += other.checkpoints;
  healthy_checkpoints += other.healthy_checkpoints;
  stopped += other.stopped;
  strict_delay += other.strict_delay;
  relaxed_delay += other.relaxed_delay;
  healthy_strict_delay += other.healthy_strict_delay;
  healthy_relaxed_delay += other.healthy_relaxed_delay;
  healthy_age += other.healthy_age;
  lost.insert(lost.end(), other.lost.begin(), other.lost.end());
  predicted.insert(predicted.end(), other.predicted.begin(), other.predicted.end());
}

EpochRun simulate(EpochPolicy const& policy, CheckpointCost const& cost, Recording const& recording,
                  std::vector<Forecast> const& forecasts) {
  EpochRun run;
  auto const& samples = recording.samples;
  Epochs epochs{samples.front().time, samples.front().time};
  bool alarm_in_trouble = false;
  for (size_t t = 1; t < samples.size(); ++t) {
    double const begin = samples[t - 1].time, end = samples[t].time, length = end - begin;
    Health const health = samples[t].health.value_or(Health::kNormal);
    bool const fails = health == Health::kFailed;
    if (fails && samples[t - 1].health == Health::kFailed) {
      epochs = {end, end};  // nothing is replicated of a guest that has failed
      continue;
    }
    double const epoch = epoch_length(policy, forecasts[t - 1]);
    double const stop = cost.of(epoch);
    auto const second = epochs.pass(begin, end, epoch, stop);
    if (fails) {
      run.lost.push_back(second.age / length);
      run.predicted.push_back(alarm_in_trouble);
      alarm_in_trouble = false;
      continue;
    }
    alarm_in_trouble = health == Health::kAbnormal && (alarm_in_trouble || forecasts[t].alarm);
    double const strict = length * (epoch / 2 + stop), relaxed = second.stopped * stop / 2;
    run.seconds += length;
    run.checkpoints += second.checkpoints;
    run.stopped += second.stopped;
    run.strict_delay += strict;
    run.relaxed_delay += relaxed;
    if (health != Health::kNormal) continue;
    run.healthy_seconds += length;
    run.healthy_checkpoints += second.checkpoints;
    run.healthy_strict_delay += strict;
    run.healthy_relaxed_delay += relaxed;
    run.healthy_age += second.age;
  }
  return run;
}

}  // namespace vmsrs::predict
