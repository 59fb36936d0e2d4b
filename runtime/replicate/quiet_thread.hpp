// A thread that gets no signal: they are the business of whoever runs the guest. All have one name, by which what
// protection uses of the CPU is told from what the guest does (predict/metrics_sampler.hpp).
#pragma once

#include <functional>
#include <thread>

namespace vmsrs::runtime::replicate {

inline constexpr char const* kQuietThreadName = "replication";

std::thread quiet_thread(std::function<void()> body);

}  // namespace vmsrs::runtime::replicate
