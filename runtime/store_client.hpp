// The monitor's hand on the store process. Thread-safe: one request at a time, the others wait.
//
// Each method is the method of the same name of Store (runtime/store/store.hpp says what it does), in the store
// process. Errors are the store's own, or Code::channel (the socket failed) and Code::gone (the process has ended; the
// message says how). After `gone` every request answers `gone`: recovery is off, and the monitor must say so.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/store_process.hpp"
#include "runtime/store_wire.hpp"

namespace vmsrs::store {

class StoreClient {
 public:
  // Forks the store process. Call it before the first thread is made, in the process whose threads run guest code.
  static Result<std::unique_ptr<StoreClient>> start(ProcessConfig const& config);
  // Closes the channel, which ends the process, and waits for that.
  ~StoreClient();
  StoreClient(StoreClient const&) = delete;
  StoreClient& operator=(StoreClient const&) = delete;

  Result<void> attach_slot(SlotConfig const& slot);
  Result<void> detach_slot(uint64_t index);
  Result<void> drain(uint64_t index);
  Result<void> drain_all();
  Result<std::vector<uint64_t>> pages_of(Owner scope);
  Result<AbortResult> abort(Owner scope, Restore restore);
  Result<RestoreResult> restore_page(uint64_t page, Reason reason, uint64_t word = 0);
  Result<std::vector<uint64_t>> sweep();
  Result<void> store_word(uint64_t slot, uint64_t address, uint8_t mask, uint64_t value);
  Result<uint64_t> fetch_op(uint64_t slot, uint64_t address, srs_fetch_op op, uint64_t operand, uint64_t width,
                            uint64_t expected);
  Result<void> note(uint64_t slot, srs_record const& record);
  Result<void> range_begin(uint64_t slot, uint64_t address, uint64_t size);
  Result<void> range_done(uint64_t slot, uint64_t written);
  Result<void> shadow_add(uint64_t address, uint64_t size, bool strict);
  Result<void> shadow_renew();
  Result<Wild> shadow_check();
  Result<std::vector<Block>> take_freed();
  Result<std::vector<Owner>> live_scopes();
  Result<Stats> stats();
  Result<std::vector<uint64_t>> save();
  // A round trip and nothing else.
  Result<void> ping();

  pid_t pid() const { return process_.pid; }
  // False once a request has found it gone.
  bool alive() const { return alive_.load(std::memory_order_relaxed); }

 private:
  explicit StoreClient(Process process) : process_(process) {}
  Result<std::vector<uint64_t>> ask(wire::Kind kind, uint64_t v0 = 0, uint64_t v1 = 0, uint64_t v2 = 0, uint64_t v3 = 0,
                                    uint64_t v4 = 0, uint64_t v5 = 0);
  Result<void> order(wire::Kind kind, uint64_t v0 = 0, uint64_t v1 = 0, uint64_t v2 = 0, uint64_t v3 = 0,
                     uint64_t v4 = 0);
  ssize_t receive();
  Error broken(char const* call, int cause);

  Process process_;
  std::mutex mutex_;
  std::atomic<bool> alive_{true};
  std::string how_it_ended_;
  wire::Answer answer_{};
};

}  // namespace vmsrs::store
