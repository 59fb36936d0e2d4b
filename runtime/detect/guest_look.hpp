// A look at a guest's threads from the monitor, for wait_graph.hpp. Costs the guest nothing: it reads what each thread
// keeps anyway. Thread-safe.
#pragma once

#include <vector>

#include "runtime/detect/wait_graph.hpp"
#include "vmm/process.hpp"

namespace vmsrs::runtime::detect {

// By ascending tid.
std::vector<ThreadLook> look_at_threads(vmm::Process& process);

}  // namespace vmsrs::runtime::detect
