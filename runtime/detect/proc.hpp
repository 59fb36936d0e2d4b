// Processes of this host, as the kernel tells: who is there, in what state, and how busy the host is.
#pragma once

#include <cstdint>
#include <optional>

#include "runtime/detect/status_page.hpp"
#include "vmm/error.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime::detect {

uint64_t now_ns();  // CLOCK_MONOTONIC

// State letter and start time of a process. None: no such process.
struct ProcessState {
  char state = '?';
  uint64_t start_ticks = 0;
};
std::optional<ProcessState> process_state(int pid);
// State letter of one of its threads; '?': no such thread.
char thread_state(int pid, int tid);
ProcessId own_process_id();
// Whether that very process is there; a zombie, which will never run again, is not.
bool is_alive(ProcessId id);
// For a thread that wakes often and works little: it goes before others who have more to do, where that is allowed
// (CAP_SYS_NICE). The calling thread only.
void ask_for_promptness() noexcept;
// Readable when the process ends. None: it is gone already.
std::optional<vmm::ScopedFd> open_process(ProcessId id);

// The CPU use of the host between two calls, from /proc/stat: 0 to 1; none at the first call, or when no time passed.
// Time that a hypervisor took away counts as use. Not thread-safe.
class HostCpu {
 public:
  std::optional<double> use();

 private:
  uint64_t busy_ = 0, total_ = 0;
};

}  // namespace vmsrs::runtime::detect
