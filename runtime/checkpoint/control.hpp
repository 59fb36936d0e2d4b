// A running guest's door for `vmsrs checkpoint`: a Unix socket, one request at a time.
//
// Without a path it is a socket with an abstract name made of the monitor's process id, so that it needs no directory
// and leaves nothing behind. Only the monitor's own user and root are answered (SO_PEERCRED).
//
// Request: "vmsrs 1 checkpoint EPOCHS MILLISECONDS\n". Answer, for each epoch (the first is full, the others follow so
// far apart): one line of JSON, {"ok":true,"bytes":N,"epoch":...,"pause_ns":...} and then N bytes of the epoch's
// stream; or {"ok":false,"error":"..."}, and that is the end.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "runtime/checkpoint/checkpoint.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::checkpoint {

class ControlSocket {
 public:
  // `path`: empty: the default name. `take` makes the checkpoint; on the socket's own thread.
  static vmm::Result<std::unique_ptr<ControlSocket>> open(std::string const& path,
                                                          std::function<vmm::Result<Epoch>(bool full)> take);
  ~ControlSocket();  // waits for a request under way
  ControlSocket(ControlSocket const&) = delete;
  ControlSocket& operator=(ControlSocket const&) = delete;

 private:
  ControlSocket() = default;
  void serve();
  void answer(int connection);
  bool send_epoch(int connection, bool full);

  std::string path_;
  std::function<vmm::Result<Epoch>(bool full)> take_;
  vmm::ScopedFd listener_, stop_;
  std::thread thread_;
};

// The asking side: `target` is a process id or a socket's path. Writes the epochs to `file`, all or none; `heard` gets
// each one's line of JSON.
vmm::Result<void> ask_for_checkpoint(std::string const& target, std::string const& file, uint64_t epochs,
                                     uint64_t every_ms, std::function<void(std::string const&)> const& heard);

}  // namespace vmsrs::checkpoint
