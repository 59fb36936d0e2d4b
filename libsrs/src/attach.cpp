// Joining the monitor: the process once, each thread at its first use.
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "libsrs/src/fault.hpp"
#include "libsrs/src/guard.hpp"
#include "libsrs/src/locks.hpp"
#include "libsrs/src/monitored.hpp"
#include "libsrs/src/thread.hpp"

extern "C" void srs_landing_pad_(void);
extern "C" void srs_unwind_pad_(void);
extern "C" void srs_run_pad_(void);

namespace {
// Outside the monitor: the tag of every word, owned by every key. Under it: nobody's. Instrumented code looks at the
// tags of up to 10 words at once.
uint64_t common_tag[10] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

void set_common_tag(uint64_t value) {
  for (uint64_t& tag : common_tag) tag = value;
}
std::atomic<int> attaching{0};
}  // namespace

extern "C" {
__thread srs_thread srs_thread_ __attribute__((tls_model("initial-exec"))) = {0xff, nullptr, 0, 0, 0, 0, 0};
srs_process srs_process_ = {(uint64_t)common_tag, 0, 0, 0};
uint32_t srs_restricted_ = 0;
}

namespace srs::lib {

srs_attach attach_info;
std::atomic<uint32_t> slots_top{1};
Thread* threads[SRS_MAX_SLOTS];

void detach_restricted() {
  set_common_tag(0xff);
  srs_process_ = {(uint64_t)common_tag, 0, 0, 0};
  srs_thread_.key = 0xff;
  srs_restricted_ = 1;
}

void die(char const* text) {
  char const* const parts[] = {"libsrs: ", text, "\n"};
  for (char const* part : parts) {
    if (write(STDERR_FILENO, part, strlen(part)) < 0) break;
  }
  abort();
}

Thread* thread_slow() {
  int const saved = errno;
  long const address = hypercall(SRS_HC_THREAD);
  if (address < 0 && address > -4096) {
    errno = static_cast<int>(-address);
    die("the monitor has no slot for this thread: too many threads");
  }
  auto* const slot = reinterpret_cast<srs_slot*>(address);
  if (slot->index == 0 || slot->index >= SRS_MAX_SLOTS) die("the monitor gave a slot that does not exist");
  Thread* t = threads[slot->index];
  if (t == nullptr) {
    void* const p = mmap(nullptr, sizeof(Thread), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) die("no memory for a thread's record");
    t = static_cast<Thread*>(p);
    threads[slot->index] = t;
  } else {  // its last thread has ended; no scope, lock or atomic of it lives
    t->held_top = 0;
    t->held_now = 0;
    t->untracked = 0;
    t->deferred.shrink(0);
    t->debts.shrink(0);
    t->undone.shrink(0);
    t->stripe = nullptr;
    t->unwinding = false;
    t->landing = false;
    t->tainted = false;
  }
  t->slot = slot;
  own_stack_forget();
  slot->depth = 0;
  slot->critical = 0;
  slot->pending = 0;
  slot->waiting_for = 0;
  slot->shared_locks = 0;
  slot->key_address = reinterpret_cast<uint64_t>(&srs_thread_.key);
  if (slot->next_number == 0) slot->next_number = 1;
  slot_private(slot)->epoch = 0;
  uint32_t top = slots_top;
  while (top <= slot->index && !slots_top.compare_exchange_weak(top, static_cast<uint32_t>(slot->index) + 1)) {
  }
  set_owner(slot, srs_owner(slot->index, 0));
  std::atomic_signal_fence(std::memory_order_seq_cst);
  srs_thread_.slot = slot;
  errno = saved;
  return t;
}

namespace {

void attach() {
  int idle = 0;
  if (srs_process_.active || !attaching.compare_exchange_strong(idle, 1)) return;
  srs_attach a{};
  a.version = SRS_ABI_VERSION;
  a.size = sizeof a;
  a.landing_pad = reinterpret_cast<uint64_t>(&srs_landing_pad_);
  a.unwind_pad = reinterpret_cast<uint64_t>(&srs_unwind_pad_);
  a.run_pad = reinterpret_cast<uint64_t>(&srs_run_pad_);
  a.abort_message = reinterpret_cast<uint64_t>(dlvsym(RTLD_DEFAULT, "__abort_msg", "GLIBC_PRIVATE"));
  long const result = hypercall(SRS_HC_ATTACH, &a);
  if (result == 0) {
    attach_info = a;
    set_common_tag(0);
    monitored_choose();
    guard_choose();
    if (a.store_mode == SRS_STORE_STRICT) {
      srs_process_.strict = 1;
    } else {
      srs_process_.tag_mask = a.address_mask & ~UINT64_C(7);
      srs_process_.tag_base = a.tag_base;
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    srs_process_.active = 1;
    hook_terminate();
  } else if (result == -EPROTO) {
    die("the monitor speaks another version of the ABI: rebuild the program with its libsrs");
  } else if (result != -ENOSYS) {
    errno = static_cast<int>(-result);
    die("the monitor refused SRS_HC_ATTACH");
  }
  attaching = 0;
}

__attribute__((constructor(101))) void attach_at_start() {
  locks_find_real();
  attach();
}

}  // namespace
}  // namespace srs::lib

extern "C" int srs_init_profile(void) {
  int const saved = errno;
  srs::lib::attach();
  errno = saved;
  return srs_active();
}

extern "C" void srs_sync(void) {
  if (srs_process_.active) srs::lib::hypercall(SRS_HC_SYNC);
}
