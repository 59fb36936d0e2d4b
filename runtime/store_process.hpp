// The store as a process of its own, so that nothing in the monitor's address space can change what it holds.
//
// It is forked before the monitor has threads, maps the guest's memory at addresses of its own, closes every other
// descriptor, and serves one request at a time from one socket until that closes. It dies with the monitor
// (PR_SET_PDEATHSIG), ignores the terminal's signals, and is not dumpable: no other process of the same user can
// trace it or open its /proc/PID/mem.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/store/store.hpp"

namespace vmsrs::store {

// Guest memory [guest, guest + size) is fd's bytes [offset, offset + size); offset is a multiple of the page size.
// Pages that the guest may not touch at the moment (mprotect by the monitor) are of no matter here.
struct MemoryPart {
  int fd = -1;
  uint64_t guest = 0;
  uint64_t size = 0;
  uint64_t offset = 0;
};

struct ProcessConfig {
  std::vector<MemoryPart> parts;
  uint64_t tag_base = 0;      // as in struct srs_attach
  uint64_t address_mask = 0;  // as in struct srs_attach
  uint64_t page_size = 4096;
  // The store writes a byte of the part's fd at this offset. In the store process, often: must be quick.
  std::function<void(uint64_t offset)> wrote;
  std::vector<uint64_t> saved;  // Store::save() of a checkpoint; empty: a new store
};

struct Process {
  pid_t pid = -1;
  int socket = -1;  // the monitor's end: SOCK_SEQPACKET, close-on-exec
};

// Forks it. Errors of its start (a part that cannot be mapped) come back from here. The caller owns pid and socket;
// StoreClient::start() is what most want.
Result<Process> start_process(ProcessConfig const& config);

// The process's loop, on a store that runs here: until the other end closes. Returns 0, or an errno of the socket.
int serve(Store& store, int socket);

}  // namespace vmsrs::store
