// Taking and making the state of a guest process. Layer-internal to checkpoints; runtime/checkpoint drives it.
#pragma once

#include <functional>
#include <string>

#include "vmm/checkpoint/process_state.hpp"
#include "vmm/guest_process.hpp"

namespace vmm {

// With the guest standing at its gates (Process::stop_at_gates). Errc::kNotCheckpointable: it has something that cannot
// be put into a checkpoint, which the message names; the guest is as before.
Result<ProcessState> capture_state(GuestProcess& process, SocketHooks const& hooks);

// Into a new process whose memory is the checkpoint's, while nothing runs: mappings, descriptors, signals, timers, and
// threads, which stand at their first gate when it returns. To be called inside GuestProcess::run's `begin`, between
// pause_all() and resume_all(). `note` hears what could not be put back as it was.
Result<void> restore_state(GuestProcess& process, ProcessState const& state, SocketHooks const& hooks,
                           std::function<void(std::string const&)> const& note);

// Of this monitor's vDSO: a checkpoint holds the guest's, and the two must be the same.
[[nodiscard]] uint64_t vdso_hash();

}  // namespace vmm
