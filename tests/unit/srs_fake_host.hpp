// A monitor made of ordinary memory, for tests of libsrs without a VM: it takes the rings, undoes one thread's scopes,
// and lands them from a SIGSEGV handler. One translation unit per test program includes it. It undoes naively (only
// what the scope itself logged, newest first): the store's own tests are where versions of several scopes meet.
//
// Define SRS_FAKE_STRICT before the include for the strict store mode, SRS_FAKE_THREAD_SCOPES for SRS_SCOPE=thread.
#ifndef TESTS_UNIT_SRS_FAKE_HOST_HPP
#define TESTS_UNIT_SRS_FAKE_HOST_HPP

#include <signal.h>
#include <srs/srs.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "libsrs/src/hypercall.hpp"

namespace fake {

struct Entry {
  srs_record record;
  uint64_t depth;
};
struct SlotLog {
  std::vector<Entry> journal;
  std::vector<size_t> renewed;  // per live scope: journal size when its owner was new
  std::vector<srs_action> actions;
  srs_fault_info last;
  uint64_t kinds[16];  // records seen
  uint64_t bad;        // records that fail their check
  uint64_t giver;      // of the last lock record
};
struct Host {
  srs_attach attach;
  srs_slot* slots;
  SlotLog* logs;
  std::atomic<uint32_t> next{1};
  std::atomic<uint64_t> calls[SRS_HC_END - SRS_HC_BASE];
  std::atomic<uint64_t> cycles;
  std::atomic<bool> keep_stores;  // a broken monitor: lands, gives back locks and memory, undoes no store
};

inline Host& host() {
  static Host h;
  return h;
}
constexpr uint64_t kRing = 256;
constexpr uint64_t kTagMask = (UINT64_C(1) << 36) - 1;

inline void* pages(size_t size) {
  void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) abort();
  return p;
}
inline srs_slot* my_slot() {
  return srs_thread_.slot;
}
inline SlotLog& log_of(srs_slot const* slot) {
  return host().logs[slot->index];
}

inline uint64_t bits(uint64_t mask) {
  uint64_t all = 0;
  for (unsigned i = 0; i < 8; ++i) {
    if ((mask >> i & 1) != 0) all |= UINT64_C(0xff) << i * 8;
  }
  return all;
}

inline void take(SlotLog& log, srs_record const& r) {
  uint64_t const kind = srs_record_kind_of(r.what);
  log.kinds[kind]++;
  if (kind == SRS_REC_LOCK) log.giver = r.b;
  uint64_t const depth = log.renewed.size();
  switch (kind) {
    case SRS_REC_BEGIN:
      log.renewed.push_back(log.journal.size());
      break;
    case SRS_REC_COMMIT:
      if (depth == 0) abort();
      log.renewed.pop_back();
      if (depth == 1) log.journal.clear();
      for (Entry& e : log.journal) {
        if (e.depth == depth) e.depth = depth - 1;
      }
      break;
    case SRS_REC_RENEW:
      log.renewed.back() = log.journal.size();
      break;
    case SRS_REC_FINAL:
      for (size_t i = log.journal.size(); i-- > 0;) {
        uint64_t const k = srs_record_kind_of(log.journal[i].record.what);
        bool const stored = (k == SRS_REC_STORE || k == SRS_REC_DELTA) && i >= log.renewed.back();
        // What is final may point to any block allocated before.
        if (!stored && k != SRS_REC_ALLOC) continue;
        log.journal.erase(log.journal.begin() + static_cast<long>(i));
        for (size_t& at : log.renewed) at -= at > i ? 1 : 0;
      }
      break;
    default:
      if (depth > 0) log.journal.push_back({r, depth});
  }
}

inline void drain(srs_slot* slot) {
  SlotLog& log = log_of(slot);
  auto const* ring = reinterpret_cast<srs_record const*>(slot->ring);
  uint64_t const head = __atomic_load_n(&slot->head, __ATOMIC_ACQUIRE);
  for (uint64_t i = slot->tail; i < head; ++i) {
    srs_record const& r = ring[i & (kRing - 1)];
    if (r.check != srs_record_check(&r, slot->key, i)) log.bad++;
    take(log, r);
  }
  __atomic_store_n(&slot->tail, head, __ATOMIC_RELEASE);
}

// A record whose tag is taken but which is not published yet; and a delta that is logged but not yet added.
inline void take_unfinished(srs_slot* slot) {
  SlotLog& log = log_of(slot);
  uint64_t const head = slot->head;
  if (slot->pending == 0) return;
  if (slot->pending == head + 1) {
    srs_record const r = reinterpret_cast<srs_record const*>(slot->ring)[head & (kRing - 1)];
    uint64_t const kind = srs_record_kind_of(r.what);
    if (r.check != srs_record_check(&r, slot->key, head) || (kind != SRS_REC_STORE && kind != SRS_REC_DELTA)) return;
    uint64_t const covers = kind == SRS_REC_DELTA ? 0 : srs_record_mask(r.what);
    uint64_t const tag = *reinterpret_cast<uint64_t*>(host().attach.tag_base + (srs_record_addr(r.what) & kTagMask));
    if (tag != srs_tag_next(r.b, slot->owner, covers)) return;
    take(log, r);
    slot->head = head + 1;
    slot->tail = head + 1;
  }
  if (!log.journal.empty() && srs_record_kind_of(log.journal.back().record.what) == SRS_REC_DELTA) {
    uint64_t const what = log.journal.back().record.what;
    uint64_t const in = bits(srs_record_mask(what));
    auto const now = *reinterpret_cast<uint64_t const*>(srs_record_addr(what));
    if (((now ^ slot->pending_value) & in) != 0) log.journal.pop_back();
  }
}

// Undoes every scope from `index` on, and leaves the actions for SRS_HC_LANDED.
inline void undo(srs_slot* slot, uint64_t index) {
  SlotLog& log = log_of(slot);
  drain(slot);
  take_unfinished(slot);
  std::vector<srs_action> unlocks;
  std::vector<uint64_t> given_up;
  while (!log.journal.empty() && log.journal.back().depth > index) {
    srs_record const r = log.journal.back().record;
    log.journal.pop_back();
    uint64_t const address = srs_record_addr(r.what);
    auto* word = reinterpret_cast<uint64_t*>(address);
    uint64_t const in = host().keep_stores ? 0 : bits(srs_record_mask(r.what));
    switch (srs_record_kind_of(r.what)) {
      case SRS_REC_STORE:
        *word = (*word & ~in) | (r.a & in);
        break;
      case SRS_REC_DELTA: {  // other threads add to the word meanwhile
        uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(word, &seen, (seen & ~in) | (((seen & in) - r.a) & in), false,
                                            __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        }
        break;
      }
      case SRS_REC_ALLOC:
        log.actions.push_back({SRS_ACT_FREE, address, r.a});
        break;
      case SRS_REC_UNLOCK:
        given_up.push_back(address);
        break;
      case SRS_REC_LOCK: {
        bool gone = false;
        for (size_t i = 0; i < given_up.size() && !gone; ++i) {
          if (given_up[i] != address) continue;
          given_up.erase(given_up.begin() + static_cast<long>(i));
          gone = true;
        }
        if (!gone) unlocks.push_back({SRS_ACT_UNLOCK, address, r.a});
        break;
      }
      default:
        break;
    }
  }
  log.actions.insert(log.actions.end(), unlocks.begin(), unlocks.end());
  log.renewed.resize(index);
}

// What the monitor does to the registers.
inline bool land(srs_slot* slot, uint64_t index, ucontext_t* context, uint32_t kind) {
  srs_landing const& l = slot->landings[index];
  if (l.check != srs_landing_check(&l, slot->key)) return false;
  undo(slot, index);
  SlotLog& log = log_of(slot);
  log.last = {};
  log.last.kind = kind;
  log.last.user = slot->scopes[index].user;
  auto* const g = context->uc_mcontext.gregs;
  g[REG_RIP] = static_cast<greg_t>(host().attach.landing_pad);
  g[REG_RSP] = static_cast<greg_t>(l.rsp);
  g[REG_RBX] = static_cast<greg_t>(l.rbx);
  g[REG_RBP] = static_cast<greg_t>(l.rbp);
  g[REG_R12] = static_cast<greg_t>(l.r12);
  g[REG_R13] = static_cast<greg_t>(l.r13);
  g[REG_R14] = static_cast<greg_t>(l.r14);
  g[REG_R15] = static_cast<greg_t>(l.r15);
  g[REG_RDI] = static_cast<greg_t>(index);
  return true;
}

// Which scope an abort hits: the innermost, or one set by a test.
inline std::atomic<int> abort_index{-1};

// This thread is in the host: a blow from outside waits, as it does in the monitor.
inline thread_local bool inside = false;
inline std::atomic<uint64_t> struck;

inline void on_fault(int signal, siginfo_t* info, void* raw) {
  auto* const context = static_cast<ucontext_t*>(raw);
  srs_slot* const slot = my_slot();
  if (signal == SIGUSR1) {
    if (inside || slot == nullptr || slot->depth == 0 || slot->critical != 0) return;
    struck++;
  }
  if (slot == nullptr || slot->depth == 0) {
    ::signal(signal, SIG_DFL);
    return;
  }
  int const chosen = abort_index.exchange(-1);
  uint64_t const index = chosen >= 0 ? static_cast<uint64_t>(chosen) : slot->depth - 1;
  uint32_t kind = SRS_FAULT_LOAD;
  if (signal == SIGUSR1) kind = SRS_FAULT_DEADLINE;
  auto const address = reinterpret_cast<uint64_t>(info->si_addr);
  if (signal == SIGSEGV && address < slot->landings[index].stack_low &&
      address + (64 << 10) >= slot->landings[index].stack_low)
    kind = SRS_FAULT_STACK;
  if (slot->scopes[index].policy == SRS_UNWIND) {
    undo(slot, index);
    log_of(slot).last = {};
    log_of(slot).last.kind = kind;
    sigset_t set;  // as the monitor, this host has no handler running from here on
    sigemptyset(&set);
    sigaddset(&set, signal);
    sigprocmask(SIG_UNBLOCK, &set, nullptr);
    reinterpret_cast<void (*)(uint64_t)>(host().attach.unwind_pad)(index);
  }
  if (!land(slot, index, context, kind)) abort();
}

inline void install_handlers(bool on_own_stack) {
  if (on_own_stack) {
    static thread_local bool done = false;
    if (!done) {
      stack_t ss{};
      ss.ss_size = 64 << 10;
      ss.ss_sp = pages(ss.ss_size);
      sigaltstack(&ss, nullptr);
      done = true;
    }
  }
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | (on_own_stack ? SA_ONSTACK : 0);
  for (int s : {SIGSEGV, SIGFPE, SIGILL, SIGUSR1, SIGUSR2, SIGBUS}) sigaction(s, &action, nullptr);
}

inline long attach(srs_attach* a) {
  Host& h = host();
  if (a->version != SRS_ABI_VERSION || a->size != sizeof *a) return -EPROTO;
  h.slots = static_cast<srs_slot*>(pages(SRS_MAX_SLOTS * sizeof(srs_slot)));
  h.logs = static_cast<SlotLog*>(pages(SRS_MAX_SLOTS * sizeof(SlotLog)));  // all zero is empty
  a->tag_base = reinterpret_cast<uint64_t>(pages(kTagMask + 1));
  a->address_mask = kTagMask;
#ifdef SRS_FAKE_STRICT
  a->store_mode = SRS_STORE_STRICT;
#endif
#ifdef SRS_FAKE_THREAD_SCOPES
  a->scope_thread = 1;
#endif
  a->slots = reinterpret_cast<uint64_t>(h.slots);
  h.attach = *a;
  install_handlers(true);
  return 0;
}

inline long new_thread() {
  Host& h = host();
  uint32_t const index = h.next++;
  if (index >= SRS_MAX_SLOTS) return -EAGAIN;
  srs_slot* const slot = &h.slots[index];
  slot->index = index;
  slot->ring = reinterpret_cast<uint64_t>(pages(kRing * sizeof(srs_record)));
  slot->ring_records = kRing;
  slot->key = UINT64_C(0x5eed) * index;
  slot->tid = index;
  return reinterpret_cast<long>(slot);
}

inline uint64_t* tag_at(uint64_t address) {
  return reinterpret_cast<uint64_t*>(host().attach.tag_base + (address & kTagMask & ~UINT64_C(7)));
}

// A store by hypercall: for strict mode, and for signal handlers within a log step.
inline void store(uint64_t address, uint64_t value, uint64_t mask) {
  auto* word = reinterpret_cast<uint64_t*>(address);
  srs_record const r{srs_what(SRS_REC_STORE, mask, address), *word, 0, 0};
  take(log_of(my_slot()), r);
  *word = (*word & ~bits(mask)) | (value & bits(mask));
}

}  // namespace fake

extern "C" inline long fake_hypercall(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  using namespace fake;
  if (number < SRS_HC_BASE || number >= SRS_HC_END) return -ENOSYS;
  host().calls[number - SRS_HC_BASE]++;
  switch (number) {
    case SRS_HC_ATTACH:
      return attach(reinterpret_cast<srs_attach*>(a));
    case SRS_HC_THREAD:
      return new_thread();
    case SRS_HC_DRAIN:
      drain(my_slot());
      return 0;
    case SRS_HC_FAULT:
      if (my_slot()->depth == 0) return -EINVAL;
      // The real monitor moves the thread from within the call; a signal does that here.
      raise(SIGUSR2);
      return -EINVAL;
    case SRS_HC_LANDED: {
      auto& actions = log_of(my_slot()).actions;
      auto* out = reinterpret_cast<srs_action*>(a);
      uint64_t n = 0;
      while (n < b && !actions.empty()) {
        out[n++] = actions.front();
        actions.erase(actions.begin());
      }
      return static_cast<long>(n);
    }
    case SRS_HC_STORE:
      store(a, b, c);
      return 0;
    case SRS_HC_FETCH_OP: {
      uint64_t const width = c & 0xff;
      uint64_t const word = a & ~UINT64_C(7);
      unsigned const shift = static_cast<unsigned>(a & 7) * 8;
      uint64_t const in = width == 8 ? ~UINT64_C(0) : UINT64_C(0xffffffff);
      uint64_t const old = (*reinterpret_cast<uint64_t*>(word) >> shift) & in;
      auto* result = reinterpret_cast<uint64_t*>(d);
      uint64_t const expected = *result & in;
      *result = old;
      if ((c >> 8) == SRS_OP_CAS && old != expected) return 0;
      uint64_t const fresh = (c >> 8) == SRS_OP_ADD ? (old + b) & in : b & in;
      store(word, fresh << shift, (width == 8 ? 0xff : 0x0f) << (a & 7));
      return 0;
    }
    case SRS_HC_SCOPE:
      take(log_of(my_slot()), {srs_what(a, 0, 0), b, c, 0});
      return 0;
    case SRS_HC_RECORD:
      take(log_of(my_slot()), *reinterpret_cast<srs_record*>(a));
      return 0;
    case SRS_HC_LOCK_CYCLE:
      host().cycles++;
      return 0;
    case SRS_HC_FAULT_INFO:
      *reinterpret_cast<srs_fault_info*>(a) = log_of(my_slot()).last;
      return 0;
    default:
      return 0;
  }
}

extern "C" long srs_hypercall_(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  fake::inside = number != SRS_HC_FAULT;  // which raises a signal of its own
  long const result = fake_hypercall(number, a, b, c, d);
  fake::inside = false;
  return result;
}

#endif
