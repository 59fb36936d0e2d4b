// Whoever stands between the guest's TCP servers and their clients: the clients' connections end there, and go on
// inside to the guest's own sockets. The guest sees neither: it is told the names that it would have without.
//
// Called on the guest threads' host threads and by pollers, several at once; must not wait for the guest.
#pragma once

#include "vmm/syscalls/socket_address.hpp"

namespace vmm {

class SocketRelay {
 public:
  virtual ~SocketRelay() = default;
  // Binds the guest's TCP socket, whose host descriptor is `fd`, in its own way; 0 or -errno.
  virtual int bind(int fd, SocketAddress const& wanted) = 0;
  // The host's socket listens from here on; 0 or -errno.
  virtual int listening(int fd, int backlog) = 0;
  // A connection that came to a listening TCP socket. False: from a stranger, who gets no answer. `peer` becomes the
  // client's name.
  virtual bool admit(int fd, SocketAddress& peer) = 0;
  // getsockname, or with `of_peer` getpeername, has answered `name`.
  virtual void rename(int fd, bool of_peer, SocketAddress& name) = 0;
};

}  // namespace vmm
