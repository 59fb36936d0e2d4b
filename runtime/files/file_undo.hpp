// Takes back what a lost primary did to files after an epoch (docs/failover.md, "Files").
//
// A folder on the same host holds the primary's segments (undo_log.hpp), named by term, order and the epoch at whose
// boundary each begins, and says who the primary is: as long as it lives it may still write, so it is killed, and its
// end waited for, before anything is taken back. What is taken back is as it was: bytes, size, names, mode, owner,
// times. Doing it twice does no harm.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "vmm/error.hpp"

namespace vmsrs::runtime::files {

struct Segment {
  uint64_t term = 0, sequence = 0, epoch = 0;
  [[nodiscard]] std::string name() const;  // in the folder
};

// Says that this process is the one that writes from here on; replaces whoever was before.
vmm::Result<void> claim(std::string const& folder);

// Whether each thread of it is on its way out or gone: such a one makes no system call any more. The process itself may
// take seconds from there until its memory is given back, and is no zombie before.
bool has_stopped(pid_t pid);

// Kills the process that claimed the folder, if it lives, and waits until none of its threads can make a call any more:
// `note` is told each second.
vmm::Result<void> fence(std::string const& folder, std::function<void(std::string const&)> const& note);

struct Undone {
  uint64_t changes = 0, bytes = 0;
};
// All changes after that epoch of that term, the newest first; the segments are gone then. What cannot be taken back is
// told by `note`, one sentence each, and the rest goes on. The folder must be fenced.
vmm::Result<Undone> undo_after(std::string const& folder, uint64_t term, uint64_t epoch,
                               std::function<void(std::string const&)> const& note);

}  // namespace vmsrs::runtime::files
