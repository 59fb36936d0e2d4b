// Socket addresses of the guest, copied in and out.
#pragma once

#include <sys/socket.h>

#include "vmm/guest_addr.hpp"

namespace vmm {

class Thread;

struct SocketAddress {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};

int64_t read_address(Thread& thread, GuestAddr at, uint64_t size, SocketAddress& address);
// Writes as much as the room at *size_at takes, and the full size there. Null `at`: nothing.
int64_t write_address(Thread& thread, GuestAddr at, GuestAddr size_at, SocketAddress const& address);
// The path of an AF_UNIX address must not lead through procfs's magic links: 0 or -errno.
int64_t check_unix_path(Thread& thread, SocketAddress const& address, bool make);

}  // namespace vmm
