// `vmsrs run --restart`: a program that a signal ended is started anew.
#pragma once

#include <functional>

namespace vmsrs::cli {

// Calls `run` in a child process, and again while it ends by a signal (128 + n, or the child's own), at most 5 times in
// a minute. Signals that ask a program to end are passed on; after one it is not started again. The exit status is the
// last run's. Before any thread exists.
int supervise(std::function<int()> const& run);

}  // namespace vmsrs::cli
