// What libsrs knows of one thread, and of the process. A thread's record belongs to its slot: the next thread that
// gets the slot takes it over, with its stacks, its arena and the blocks that still wait to be freed.
#ifndef SRS_SRC_THREAD_HPP
#define SRS_SRC_THREAD_HPP

#include <srs/srs.h>

#include <atomic>

#include "libsrs/src/hypercall.hpp"
#include "libsrs/src/pod_list.hpp"

extern "C" uint32_t srs_restricted_ __attribute__((visibility("hidden")));

namespace srs::lib {

// A lock that this thread really holds. Read by other threads (who holds what this one waits for), hence atomic.
struct HeldLock {
  std::atomic<uint64_t> address;  // 0: free entry
  uint32_t kind;                  // enum srs_lock_kind
  uint32_t count;                 // how often the program holds it (recursive mutexes); 0: deferred
  uint32_t depth;                 // scopes live when it was taken: 0, or it goes with the depth-th
  uint32_t put_off;               // count 0: scopes live when the program gave it up
  uint32_t taken_back;            // not 0: an inner scope of this depth holds what an outer one holds on to
  uint64_t stores;                // Thread::stores when it was taken
};
constexpr unsigned kMaxHeld = 64;

struct DeferredFree {
  void* block;
  uint32_t depth;  // of the scope that freed it
};
// A block that the thread's innermost scope allocated. The latest of them are remembered.
struct Fresh {
  uint64_t begin;
  uint64_t size;
};
constexpr unsigned kMaxFresh = 16;
// What a scope would owe others if it were aborted (debts.hpp).
struct Debt {
  void* object;
  uint64_t value;
  uint32_t kind;
  uint32_t depth;  // of the scope
};
struct Waiting {  // for reuse
  void* block;
  uint64_t stamp;
};

struct Stack {
  uint64_t low;  // the guard lies below it
  uint64_t size;
};

struct Scope {
  uint64_t outer;  // slot->owner before it
  Stack stack;
  uint32_t mxcsr;
  uint16_t x87_control;
  bool bare;  // it has stored something while it held no lock
  // Of the C++ runtime, as the scope found it: exceptions caught and not over, and how many are in flight.
  void* caught;
  unsigned uncaught;
  uint64_t memory_limit;  // bytes that it may allocate, 0: any number
  uint64_t allocated;
  uint64_t stores_begun;  // Thread's stores when it began
};

struct Thread {
  srs_slot* slot;
  uint64_t notes;   // ring records of this thread that are no stores
  uint64_t called;  // stores by hypercall
  Scope scopes[SRS_MAX_DEPTH];

  HeldLock held[kMaxHeld];
  uint32_t held_top;              // entries in use lie below it
  uint32_t held_now;              // locks that the program holds (deferred ones not counted)
  uint32_t untracked;             // locks taken while the table was full
  uint64_t stores_bare;           // `stores` when the last lock was given up
  uint64_t stores_renewed;        // `stores` when the owner was new
  std::atomic<uint32_t>* stripe;  // spin lock of an atomic in progress

  Fresh fresh[kMaxFresh];
  uint32_t fresh_next;
  uint64_t fresh_owner;  // whose they are: no live owner's, and the table counts for nothing

  PodList<DeferredFree> deferred;
  PodList<Waiting> waiting;
  PodList<Debt> debts;
  PodList<void*> undone;  // blocks and locks that the abort gave back while destructors still run
  bool unwinding;
  uint32_t unwind_depth;  // scopes live when the unwinding began
  uint32_t unwind_at;     // index of the scope whose frames are being unwound
  bool tainted;           // it faulted inside the allocator: it allocates elsewhere now
  // The abort that is being carried out. A fault on the way begins it again: it goes on behind the action at fault.
  bool landing;
  uint32_t action_at, action_count;
  srs_action actions[32];
  Stack spare[SRS_MAX_DEPTH];
};

// The part of a slot that is ours; other threads read `epoch`.
struct SlotPrivate {
  std::atomic<uint64_t> epoch;  // of the outermost live scope's beginning, 0: none
};
inline SlotPrivate* slot_private(srs_slot* slot) {
  return reinterpret_cast<SlotPrivate*>(slot->guest_private);
}

// What ATTACH answered; all zero outside the monitor.
extern srs_attach attach_info;
// Slots in use lie below it.
extern std::atomic<uint32_t> slots_top;

// This thread's record, made at its first use. Null outside the monitor. Ends the process if the host has no slot.
Thread* thread_slow();
extern Thread* threads[SRS_MAX_SLOTS];

inline Thread* thread() {
  if (!srs_process_.active) return nullptr;
  srs_slot* const slot = srs_thread_.slot;
  return __builtin_expect(slot != nullptr, 1) ? threads[slot->index] : thread_slow();
}
// Its record if it has one already.
inline Thread* thread_if_known() {
  srs_slot* const slot = srs_thread_.slot;
  return slot != nullptr ? threads[slot->index] : nullptr;
}
inline srs_slot* slot_at(uint32_t index) {
  return reinterpret_cast<srs_slot*>(attach_info.slots) + index;
}

inline void set_owner(srs_slot* slot, uint64_t owner) {
  slot->owner = owner;
  srs_thread_.key = srs_tag_make(owner, 0, 0xff);
}

// The block that log_stub.S knows as the innermost scope's own: it must be, and the scope's isolation not `track`.
inline void fresh_block_set(Thread const* t, Fresh const& block) {
  srs_thread_.fresh_key = 0;
  srs_thread_.fresh_low = block.begin;
  srs_thread_.fresh_size = block.size;
  srs_thread_.fresh_key = srs_tag_make(t->fresh_owner, 0, 0xff);
}

// The stack of the innermost of the `depth` scopes that live now.
inline void own_stack_forget() {
  srs_thread_.stack_low = 0;
  srs_thread_.stack_size = 0;
}
inline void own_stack_set(Thread const* t, uint64_t depth) {
  Stack const none{0, 0};
  Stack const& own = depth != 0 ? t->scopes[depth - 1].stack : none;
  srs_thread_.stack_low = own.low;
  srs_thread_.stack_size = own.size;
}

// Counts what this thread has logged: it moves with each store and delta, by ring or by hypercall.
inline uint64_t stores_of(Thread const* t) {
  return t->slot->head - t->notes + t->called;
}

// A deadline waits while one of these lives; a fault inside taints the thread.
class Critical {
 public:
  explicit Critical(Thread* t) : slot_(t != nullptr ? t->slot : nullptr) {
    if (slot_ != nullptr) {
      slot_->critical = slot_->critical + 1;
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
  }
  ~Critical() {
    if (slot_ != nullptr) {
      std::atomic_signal_fence(std::memory_order_seq_cst);
      slot_->critical = slot_->critical - 1;
    }
  }
  Critical(Critical const&) = delete;
  Critical& operator=(Critical const&) = delete;

 private:
  srs_slot* slot_;
};

// In the copy-on-write view of the policy `run` (restricted.cpp): this library is as outside the monitor, but for
// locks, which are granted. Never set in the main memory.
inline bool restricted() {
  return __builtin_expect(srs_restricted_ != 0, 0);
}
// Makes it so; in the view.
void detach_restricted();

// The C++ runtime's view of exceptions: kept at a scope's beginning, put back when it lands.
void exceptions_save(Scope* scope);
void exceptions_put_back(Scope const* scope);

// Prints "libsrs:  and the text, and ends the process.
[[noreturn]] void die(char const* text);
// A fault of the innermost scope, by the program's own word; outside the monitor: die(). Returns only where the
// scope's policy is `run`.
void report_fault(srs_fault_kind kind, char const* why);

}  // namespace srs::lib

#endif
