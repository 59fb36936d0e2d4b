// A thread that gets no signal: they are the business of whoever runs the guest.
#pragma once

#include <functional>
#include <thread>

namespace vmsrs::runtime::replicate {

std::thread quiet_thread(std::function<void()> body);

}  // namespace vmsrs::runtime::replicate
