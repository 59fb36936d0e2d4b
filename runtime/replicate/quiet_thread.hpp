// A thread that gets no signal: they are the business of whoever runs the guest. It goes before the guest's threads
// where that is allowed: it works little, and while it waits for a processor a guest is stopped or a lease runs out.
// All have one name, by which what protection uses of the CPU is told from what the guest does
// (predict/metrics_sampler.hpp).
#pragma once

#include <functional>
#include <thread>

namespace vmsrs::runtime::replicate {

inline constexpr char const* kQuietThreadName = "replication";

std::thread quiet_thread(std::function<void()> body);

}  // namespace vmsrs::runtime::replicate
