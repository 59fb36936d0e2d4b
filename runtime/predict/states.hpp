// The hidden states of paper 001, section 2.2: health × load, nine of them.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace vmsrs::predict {

enum class Health { kNormal, kAbnormal, kFailed };
enum class Load { kLow, kMedium, kHigh };

inline constexpr int kHealths = 3, kLoads = 3, kStates = kHealths * kLoads;
inline constexpr std::array<std::string_view, kHealths> kHealthNames{"normal", "abnormal", "failed"};
inline constexpr std::array<std::string_view, kLoads> kLoadNames{"low", "medium", "high"};

struct State {
  Health health = Health::kNormal;
  Load load = Load::kLow;

  friend bool operator==(State const&, State const&) = default;
};

// 0 … kStates - 1, in the order of the names: all loads of normal first.
constexpr int index_of(State state) {
  return static_cast<int>(state.health) * kLoads + static_cast<int>(state.load);
}
constexpr State state_at(int index) {
  return {static_cast<Health>(index / kLoads), static_cast<Load>(index % kLoads)};
}

std::optional<Health> health_named(std::string_view name);
std::optional<Load> load_named(std::string_view name);

}  // namespace vmsrs::predict
