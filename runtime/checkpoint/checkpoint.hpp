// Taking checkpoints of a running guest (docs/checkpoint.md).
//
// An *epoch* is one consistent state of the guest as a byte stream: number 1 is full, each later one holds the pages
// that changed since the one before, and all state that is no memory. A stream is opaque to everybody else, versioned,
// and checksummed piece by piece (runtime/checkpoint/stream.hpp); compression and hashing happen after the guest goes
// on again. Image (image.hpp) adds epochs up, restore.hpp makes a guest of the sum.
//
//   Checkpointer checkpointer(process, options);
//   auto first = checkpointer.take_full();     // anywhere but on a guest's thread
//   for (;;) send(checkpointer.take_epoch());  // each is an Epoch: number, bytes, connections, cost
//
// In two steps, for a pipeline: capture() stops the guest, copies and lets it go on; encode() makes the stream, on any
// thread, in the order of the captures.
//
// Not thread-safe: one caller at a time (encode() may run beside capture()). The guest must outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/checkpoint/connections.hpp"
#include "vmm/error.hpp"

namespace vmm {
class GuestProcess;
}

namespace vmsrs::runtime {
class Recovery;
}

namespace vmsrs::checkpoint {

// What an epoch cost. Times in nanoseconds.
struct Cost {
  uint64_t pause_ns = 0;      // from the first kick until the guest may go on
  uint64_t stop_ns = 0;       // of it: until every thread stood still
  uint64_t state_ns = 0;      // of it: registers, descriptors, signals, timers
  uint64_t memory_ns = 0;     // of it: finding and copying pages
  uint64_t encode_ns = 0;     // after the pause
  uint64_t pages_copied = 0;  // while the guest was stopped
  uint64_t pages_kept = 0;    // of them, those that differ from the epoch before (the others are not in the stream)
  uint64_t threads = 0, descriptors = 0;
};

struct Epoch {
  uint64_t number = 0;  // 1: full
  bool full = false;
  std::vector<std::byte> bytes;         // the whole stream of this epoch
  std::vector<Connection> connections;  // those that the owner claimed: what this epoch covers of each
  Cost cost;
};

struct Options {
  ConnectionOwner* owner = nullptr;       // null: nobody's
  runtime::Recovery* recovery = nullptr;  // null: the guest runs without
  // The guest is about to be stopped (a full epoch has copied most of it by then). False: it is not, and the epoch is
  // not taken (Errc::kBusy).
  std::function<bool()> before_stop;
  // The next epoch, number() + 1, is about to be captured; the guest stands at its gates.
  std::function<void()> at_boundary;
  int compression = 1;  // zstd's level; 0: none
  // For tests: each epoch looks at all of memory for a change that is in no log, and fails if there is one.
  bool verify = std::getenv("VMSRS_VERIFY_EPOCHS") != nullptr;
  // Milliseconds to wait for a moment that can be checkpointed (no request of a libsrs program faulted and not yet
  // undone, no thread in a copy-on-write view).
  uint64_t patience_ms = 5'000;
};

class Captured;  // an epoch's state, copied, not yet a stream

class Checkpointer {
 public:
  Checkpointer(vmm::GuestProcess& process, Options options);
  ~Checkpointer();
  Checkpointer(Checkpointer const&) = delete;
  Checkpointer& operator=(Checkpointer const&) = delete;

  // The next epoch, full: everything. Turns the tracking of changes on.
  vmm::Result<Epoch> take_full();
  // The next epoch: what changed. The first one is full.
  vmm::Result<Epoch> take_epoch();

  // The same in two steps. An error leaves the guest running and the epoch untaken: what it would have held is in the
  // next one. It names what cannot be checkpointed ("descriptor 7 (/dev/x): ...").
  vmm::Result<std::unique_ptr<Captured>> capture(bool full);
  vmm::Result<Epoch> encode(std::unique_ptr<Captured> captured);

  // The number of the last epoch captured; 0: none.
  [[nodiscard]] uint64_t number() const noexcept;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace vmsrs::checkpoint
