// Output of a scope to its client, held back until the scope commits (output commit: nobody outside is told what may
// yet be undone). A send on a socket inside a scope is copied and answered at once; the outermost commit sends it, an
// abort drops it.
//
// One per thread, used by that thread alone. What cannot be held (too much, ancillary data, an address, a send of
// another kind) leaves at once, and the report says output_before_abort.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "vmm/fd_table.hpp"
#include "vmm/thread.hpp"

namespace vmsrs::runtime {

inline constexpr uint64_t kMaxHeldBytes = 4 << 20;  // per scope

class HeldOutput {
 public:
  // Takes a send (write, writev, sendto, sendmsg on a stream socket) of the scope with this number. The result for the
  // guest, or nothing: it is not of a kind that can be held.
  std::optional<int64_t> take(vmm::Thread& thread, vmm::SyscallArgs const& args, uint64_t number);
  // Sends everything, in order. 0, or a restart code: call again. An error of the connection drops what is left for it:
  // the guest sees it at its next call on that socket.
  int64_t flush(vmm::Thread& thread);
  // Scopes from this number on were aborted.
  void drop_from(uint64_t number);
  [[nodiscard]] bool empty() const { return items_.empty(); }
  // For a checkpoint. A file is named by the guest's lowest number for it; what has none any more is left out.
  struct Saved {
    int fd = -1;
    std::vector<std::byte> bytes;
    uint64_t sent = 0, number = 0;
  };
  [[nodiscard]] std::vector<Saved> save(vmm::FdTable const& fds) const;
  void load(std::vector<Saved> const& saved, vmm::FdTable const& fds);
  [[nodiscard]] uint64_t dropped_bytes() const { return dropped_; }

 private:
  struct Item {
    vmm::FileRef file;
    std::vector<std::byte> bytes;
    uint64_t sent = 0;
    uint64_t number = 0;
  };
  std::vector<Item> items_;
  uint64_t held_ = 0, dropped_ = 0;
};

// Whether a call may wait for an answer to what was held: then it leaves first.
bool waits_for_peer(uint64_t nr);

}  // namespace vmsrs::runtime
