// The host's own counters of a TCP connection. A file of its own: the C library's <netinet/tcp.h> knows only the older
// half of tcp_info, and the kernel's header does not stand beside it.
#pragma once

#include <cstdint>

namespace vmsrs::runtime::protect {

// Bytes that the peer has acknowledged; of a connection that was made from this side its SYN counts as one. 0: no TCP.
uint64_t acknowledged_bytes(int fd);

}  // namespace vmsrs::runtime::protect
