// The guest's resource limits: what setrlimit stored and getrlimit tells. Only RLIMIT_NOFILE has an
// effect (FdTable::limit); none is ever applied to the monitor, which shares the process with it.
// One guest per monitor. Thread-safe.
#pragma once

#include <cstdint>
#include <string>

namespace vmm {

class Thread;

int64_t get_rlimit(Thread& thread, unsigned resource, uint64_t& soft, uint64_t& hard);
int64_t set_rlimit(Thread& thread, unsigned resource, uint64_t soft, uint64_t hard);
std::string rlimits_text(Thread& thread);  // /proc/self/limits

// Names of threads, for prctl(PR_SET_NAME) and /proc/self/task/N/comm.
std::string thread_name(Thread& thread, int tid);
void set_thread_name(Thread& thread, std::string name);
// Start of the process in clock ticks since boot (field 22 of /proc/self/stat).
uint64_t start_ticks();

}  // namespace vmm
