// For tests: called before each message is sent and after each one is received, so that a process can be killed between
// any two of them. Null (the default) costs one test of a pointer. Set before the first channel exists.
#pragma once

#include <string_view>

namespace vmsrs::runtime::replicate {

using StepHook = void (*)(std::string_view message, bool sending);
inline StepHook step_hook = nullptr;

inline void step(std::string_view message, bool sending) {
  if (step_hook != nullptr) step_hook(message, sending);
}

}  // namespace vmsrs::runtime::replicate
