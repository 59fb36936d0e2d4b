// Enough of a monitor, in the process itself, to measure the log path without a VM: tags, a ring per thread, and a
// drain that only forgets. Under `vmsrs run` the monitor answers instead.
#ifndef BENCH_HOTPATH_HOST_HPP
#define BENCH_HOTPATH_HOST_HPP

namespace hotpath {

enum class Host { none, in_process, monitor };

// Who answers the hypercalls of this process.
Host host();
// From here on the library is active, unless it is already.
void attach();

}  // namespace hotpath

#endif
