// How long the VM detector waits between two sweeps, by the forecast of the host's CPU use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/error.hpp"

namespace vmsrs::runtime::detect {

enum class PeriodMode : uint8_t {
  kSteps,       // paper 000, formula 8: below 50 % 0.5 s, below 80 % 2 s, else 5 s
  kContinuous,  // a curve without steps from 0.25 to 5 s; heartbeats are looked at when they are due, whatever the
                // sweep
  kFixed
};

struct PeriodPolicy {
  PeriodMode mode = PeriodMode::kContinuous;
  double fixed_s = 0.5;  // kFixed

  // "steps", "continuous" or "fixed:SECONDS" (0.01 to 3600).
  static vmm::Result<PeriodPolicy> parse(std::string_view text);
  // forecast: 0 to 1. Seconds until the next sweep.
  [[nodiscard]] double seconds(double forecast) const;
  // Whether a silent heartbeat is looked for between sweeps, at the moment it is overdue.
  [[nodiscard]] bool by_deadline() const { return mode == PeriodMode::kContinuous; }
  [[nodiscard]] std::string name() const;
};

}  // namespace vmsrs::runtime::detect
