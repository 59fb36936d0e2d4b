// A ConnectionOwner as the monitor's descriptors hear of it.
#pragma once

#include <vector>

#include "runtime/checkpoint/connections.hpp"
#include "vmm/checkpoint/fd_state.hpp"

namespace vmsrs::checkpoint {

using vmm::SocketHooks;

// `owner` may be null. It must outlive what is returned.
SocketHooks socket_hooks(ConnectionOwner* owner);
// The connections that were claimed.
std::vector<Connection> connections_of(vmm::FdState const& state);

}  // namespace vmsrs::checkpoint
