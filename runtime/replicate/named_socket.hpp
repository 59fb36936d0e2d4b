// TCP sockets whose own address is known before they connect: the other side is told it, and lets nobody else in.
#pragma once

#include "runtime/replicate/address.hpp"

namespace vmsrs::runtime::replicate {

// The address of this host from which a way leads to `to`, port 0; empty: there is none (errno).
Address local_towards(Address const& to);
// Non-blocking, close-on-exec, bound to the address that leads towards `to`; or -errno.
int named_socket(Address const& to);
// Connects it, waits for that, and makes it blocking; 0 or -errno.
int connect_blocking(int fd, Address const& to);

}  // namespace vmsrs::runtime::replicate
