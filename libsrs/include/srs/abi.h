/* The ABI between libsrs (in the guest) and the monitor: the one file that both sides share.
 *
 * Layout is for x86-64 and little-endian only; all sizes in bytes. A change of anything here bumps SRS_ABI_VERSION.
 * Everything in `struct srs_slot` and in a ring lives in guest memory: the host clamps and checks what it reads
 * there and never trusts it for its own safety.
 *
 * How a store is logged (the code is srs/log.h; docs/store.md has the proof sketch):
 *   1. tag = *srs_tag(word); if it is this scope's and covers the bytes, just store: nothing to log.
 *   2. slot->pending_value = what the word will hold; the record's index is announced in slot->pending.
 *   3. old = *word; fill the record {addr, mask, old, tag}; exchange the tag for {owner, seq+1, mask} by
 *      compare-and-swap: it fails, and 3 begins again, if another thread or the host's undo came between.
 *      Part of a word, or an atomic object: locked; a whole word: not (the host's undo then uses membarrier).
 *      (So `old` and the previous tag belong together, and a load that faults changes nothing.)
 *   4. publish the record by advancing slot->head (release).
 *   5. store the value; slot->pending = 0.
 * Between 3 and 4 the host finds the record, complete, at ring[head]. Between 4 and 5 the record exists and the
 * store does not: the host tells from pending_value whether memory already holds it. A signal handler that
 * interrupts these steps finds slot->pending set, and uses SRS_HC_STORE instead of the ring. */
#ifndef SRS_ABI_H
#define SRS_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define SRS_ABI_ASSERT static_assert
#else
#define SRS_ABI_ASSERT _Static_assert
#endif

#define SRS_ABI_VERSION 3u

/* ---- Hypercalls: system calls with private numbers. Outside the monitor the kernel answers -ENOSYS. ---- */

enum srs_hypercall {
  SRS_HC_BASE = 0x535200,
  SRS_HC_ATTACH = SRS_HC_BASE, /* (struct srs_attach*): whole process, once; 0 or -errno (-EPROTO: other ABI version) */
  SRS_HC_THREAD,               /* (): this thread's slot; returns the guest address of its struct srs_slot, or -errno */
  SRS_HC_DRAIN,                /* (): the ring is full: take its records; 0 */
  SRS_HC_PROFILE,              /* (addr, len, name): names a monitored range, for reports and the isolation checks */
  SRS_HC_FAULT,    /* (enum srs_fault_kind, const char* why): the program reports a fault of its own scope */
  SRS_HC_LANDED,   /* (struct srs_action*, n): next actions of the abort to carry out; returns how many, fewer than n if
                      they are the last. n 0: the thread has landed */
  SRS_HC_STORE,    /* (addr, value, mask): strict mode's store, log and memory in one; returns 0 */
  SRS_HC_SCOPE,    /* (enum srs_record_kind, owner, options): strict mode's begin / commit; a and b of the record; 0 */
  SRS_HC_FETCH_OP, /* (addr, operand, width | enum srs_fetch_op << 8, old*): strict mode's atomics; 0. Writes *old;
                      CAS reads the expected value from it first */
  SRS_HC_LOCK_CYCLE, /* (lock): a hold was ended early to break a cycle: for the report */
  SRS_HC_SYNC,       /* (): returns after every earlier abort's words are back (tests, and `eager` readers) */
  SRS_HC_FAULT_INFO, /* (struct srs_fault_info*): the last fault that this thread landed from; kind NONE: no fault */
  SRS_HC_RECORD,     /* (struct srs_record*): strict mode's journal records (alloc, free, lock…) */
  SRS_HC_RUN,       /* (enum srs_run_step): policy `run`. Returns 0 (ENTER, in the view), or not at all: the thread goes
                       on elsewhere; -EINVAL: it is no such thread's to ask */
  SRS_HC_GATE,      /* (): between two slices of a wait: a deadline that waited for critical code strikes here; 0 */
  SRS_HC_FILE,      /* (fd, enum srs_file_mode): what scopes write to this open file; 0 or -errno */
  SRS_HC_LOGGED,    /* (addr, len): every store there goes through the log: a fault looks for others; 0 or -errno */
  SRS_HC_NOT_WHOLE, /* (const char* what): while landing: something that cannot be put right, for the report; 0 */
  SRS_HC_END
};

/* Policy `run`: the abort's actions are carried out; the thread is in the view, and ready; its scope is at its end. */
enum srs_run_step { SRS_RUN_ENTER = 0, SRS_RUN_GO = 1, SRS_RUN_END = 2 };

enum srs_fetch_op { SRS_OP_ADD = 0, SRS_OP_EXCHANGE = 1, SRS_OP_CAS = 2 };

/* ---- Owner tags: one 64-bit word for each aligned 8-byte word of guest memory, in guest memory. ----
 *   63          20 19    8 7     0
 *   |    owner    |  seq  |  mask |      owner = slot (10 bits) : scope number (34 bits)
 * mask: bytes of the word that this owner has logged a store of. seq: +1 each time an owner logs; orders the log of a
 * word. Scope number 0 is "outside every scope": its stores are final at once. Tag 0: never stored through libsrs. Slot
 * 0 is the host: SRS_OWNER_BUSY while an undo changes the word (a store waits: nanoseconds, in demand mode the same),
 * SRS_OWNER_RESTORED after it. */
#define SRS_TAG_MASK_BITS 8
#define SRS_TAG_SEQ_BITS 12
#define SRS_TAG_OWNER_SHIFT 20
#define SRS_NUMBER_BITS 34
#define SRS_MAX_SLOTS 1024u
#define SRS_OWNER_BUSY UINT64_C(1)
#define SRS_OWNER_RESTORED UINT64_C(2)

static inline uint64_t srs_owner(uint64_t slot, uint64_t number) {
  return (slot << SRS_NUMBER_BITS) | number;
}
static inline uint64_t srs_owner_slot(uint64_t owner) {
  return owner >> SRS_NUMBER_BITS;
}
static inline uint64_t srs_owner_number(uint64_t owner) {
  return owner & ((UINT64_C(1) << SRS_NUMBER_BITS) - 1);
}
static inline uint64_t srs_tag_make(uint64_t owner, uint64_t seq, uint64_t mask) {
  return (owner << SRS_TAG_OWNER_SHIFT) | ((seq & ((1u << SRS_TAG_SEQ_BITS) - 1)) << SRS_TAG_MASK_BITS) | (mask & 0xff);
}
static inline uint64_t srs_tag_owner(uint64_t tag) {
  return tag >> SRS_TAG_OWNER_SHIFT;
}
static inline uint64_t srs_tag_seq(uint64_t tag) {
  return (tag >> SRS_TAG_MASK_BITS) & ((1u << SRS_TAG_SEQ_BITS) - 1);
}
static inline uint64_t srs_tag_mask(uint64_t tag) {
  return tag & 0xff;
}
/* The tag that `owner` leaves when it logs bytes `mask` of a word whose tag was `prev`. A DELTA record logs no
 * bytes here (mask 0): its undo is an inverse, so a later plain store of the same scope needs its own record. */
static inline uint64_t srs_tag_next(uint64_t prev, uint64_t owner, uint64_t mask) {
  uint64_t const kept = srs_tag_owner(prev) == owner ? srs_tag_mask(prev) : 0;
  uint64_t const seq = ((UINT64_C(1) << SRS_TAG_SEQ_BITS) - 1) << SRS_TAG_MASK_BITS;
  return owner << SRS_TAG_OWNER_SHIFT | ((prev + (UINT64_C(1) << SRS_TAG_MASK_BITS)) & seq) | ((kept | mask) & 0xff);
}

/* ---- Ring records: 32 bytes. ---- */

enum srs_record_kind {
  SRS_REC_STORE = 1,  /* addr: word (8-aligned); mask: bytes; a = old value of the word; b = previous tag */
  SRS_REC_DELTA = 2,  /* addr: word; mask: bytes of the integer; a = addend; b = previous tag (its seq orders it) */
  SRS_REC_BEGIN = 3,  /* addr: 0; a = owner of the new scope; b = isolation | restore options */
  SRS_REC_COMMIT = 4, /* a = owner of the innermost scope, which ends; nested: its entries become its parent's */
  SRS_REC_ABORT = 5,  /* host only: the scope was aborted (written by nobody in the guest) */
  SRS_REC_ALLOC = 6,  /* addr: block; a = size */
  SRS_REC_FREE = 7,   /* addr: block; a = size; takes effect at commit. libsrs writes none: it waits by itself */
  SRS_REC_LOCK = 8,   /* addr: lock; a = enum srs_lock_kind */
  SRS_REC_UNLOCK = 9, /* addr: lock; the lock was really given up */
  SRS_REC_FINAL = 10, /* addr: lock; isolation `release`: what was written since the last RENEW is final */
  SRS_REC_RANGE = 11, /* host only: a system call is writing [addr, addr + a) */
  SRS_REC_RENEW = 12  /* a = fresh owner: the innermost scope goes on under it, so that its next store of a word is
                         logged again. Isolation `release`: at the outermost lock, and after FINAL. */
};

/* a of SRS_REC_FINAL: not only what was written since the last RENEW (output commit). */
#define SRS_FINAL_ALL 1u

enum srs_lock_kind { SRS_LOCK_MUTEX = 1, SRS_LOCK_RDLOCK = 2, SRS_LOCK_WRLOCK = 3, SRS_LOCK_NOTED = 4 };
enum srs_isolation { SRS_HOLD = 0, SRS_RELEASE = 1, SRS_TRACK = 2 };

struct srs_record {
  uint64_t what; /* kind << 56 | mask << 48 | addr (48 bits) */
  uint64_t a;
  uint64_t b;
  uint64_t check; /* srs_record_check() with the ring's key: a damaged record is noticed, never believed */
};
SRS_ABI_ASSERT(sizeof(struct srs_record) == 32, "ring record layout");

static inline uint64_t srs_what(uint64_t kind, uint64_t mask, uint64_t addr) {
  return kind << 56 | mask << 48 | (addr & UINT64_C(0xffffffffffff));
}
static inline uint64_t srs_record_kind_of(uint64_t what) {
  return what >> 56;
}
static inline uint64_t srs_record_mask(uint64_t what) {
  return (what >> 48) & 0xff;
}
static inline uint64_t srs_record_addr(uint64_t what) {
  return what & UINT64_C(0xffffffffffff);
}
/* index: the record's position since the ring began, so that a stale record of an earlier lap does not pass. */
static inline uint64_t srs_record_check(struct srs_record const* r, uint64_t key, uint64_t index) {
  /* Two multiplications by odd numbers: each field alone is mapped one to one, so damage to one is always seen. */
  uint64_t const x = (r->what ^ key) + (r->a + index) * UINT64_C(0xc2b2ae3d27d4eb4f);
  return (r->b ^ x ^ (x >> 32)) * UINT64_C(0x9e3779b97f4a7c15);
}

/* ---- Per-thread slot, 4096 bytes, in guest memory. ---- */

#define SRS_MAX_DEPTH 8u

/* Where a faulted scope goes back to: written by srs_request, believed only if `check` fits. */
struct srs_landing {
  uint64_t rip, rsp, rbx, rbp, r12, r13, r14, r15;
  uint64_t stack_low, stack_high; /* the scope's own stack: an overflow is a fault in the guard below stack_low */
  uint64_t owner;                 /* of the scope that lands here */
  uint64_t check;                 /* srs_landing_check() */
};

static inline uint64_t srs_landing_check(struct srs_landing const* l, uint64_t key) {
  uint64_t const v[11] = {l->rip, l->rsp, l->rbx,       l->rbp,        l->r12,  l->r13,
                          l->r14, l->r15, l->stack_low, l->stack_high, l->owner};
  uint64_t x = key;
  for (unsigned i = 0; i < 11; ++i) {
    x = (x ^ v[i]) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 32;
  }
  return x;
}

enum srs_policy { SRS_LAND = 0, SRS_UNWIND = 1, SRS_RUN = 2 };

struct srs_scope_info {
  uint64_t deadline_ns;  /* CLOCK_MONOTONIC; 0: none */
  uint32_t isolation;    /* enum srs_isolation */
  uint32_t policy;       /* enum srs_policy */
  uint64_t user;         /* the caller's id for the user served, for the report */
  uint64_t flags;        /* SRS_SCOPE_* */
  uint64_t first_number; /* of its owner when it began: RENEW gives it others */
};
#define SRS_SCOPE_COMMIT_ON_SEND 1u

struct srs_slot {
  /* Written by the guest's thread. */
  uint64_t head;          /* records published (release); record i is ring[i & (ring_records - 1)] */
  uint64_t owner;         /* of the innermost live scope; number 0 outside */
  uint64_t next_number;   /* of the next scope, from 1 */
  uint64_t depth;         /* live scopes of this thread, 0 outside; scope i has scopes[i], landings[i] */
  uint64_t pending;       /* 1 + index of a record whose store may not be in memory yet; 0: none */
  uint64_t pending_value; /* what the word will hold (bytes outside the record's mask: any) */
  uint64_t critical;      /* > 0 inside libsrs or allocator critical code: a deadline waits, a fault there taints */
  uint64_t waiting_for;   /* lock that this thread blocks on, 0: none (wait-for graph of `hold`) */
  /* Written by the host; the guest only reads. */
  uint64_t tail;         /* records taken by the host (release) */
  uint64_t index;        /* slot number, 1 .. SRS_MAX_SLOTS - 1 */
  uint64_t ring;         /* guest address of struct srs_record[ring_records] */
  uint64_t ring_records; /* a power of two */
  uint64_t key;          /* for check words */
  uint64_t tid;          /* virtual thread id */
  uint64_t wants_commit; /* not 0: SRS_HC_DRAIN at once after the outermost COMMIT (held output waits for it) */
  /* Written by the guest, at the thread's start: guest address of the thread's cached key, srs_tag_make(owner, 0,
   * 0xff). The host rewrites it where it changes `owner` itself (output commit). */
  uint64_t key_address;
  /* Written by the guest: locks of the whole process that the thread holds inside the monitored heap. A fault with one
   * held cannot be landed: everybody would wait for it. */
  uint64_t shared_locks;
  struct srs_scope_info scopes[SRS_MAX_DEPTH];
  struct srs_landing landings[SRS_MAX_DEPTH];
  /* Free for libsrs. */
  uint8_t guest_private[4096 - 17 * 8 - SRS_MAX_DEPTH * (sizeof(struct srs_scope_info) + sizeof(struct srs_landing))];
};
SRS_ABI_ASSERT(sizeof(struct srs_slot) == 4096, "slot layout");
SRS_ABI_ASSERT(offsetof(struct srs_slot, tail) == 64, "guest-written and host-written words on lines of their own");

/* ---- SRS_HC_ATTACH ---- */

#define SRS_STORE_LOG 0u
#define SRS_STORE_STRICT 1u

struct srs_attach {
  uint32_t version;     /* in: SRS_ABI_VERSION */
  uint32_t size;        /* in: sizeof(struct srs_attach) */
  uint64_t landing_pad; /* in: address of libsrs's landing code: entered with rsp etc. from struct srs_landing */
  uint64_t unwind_pad;  /* in: address of libsrs's forced-unwind entry, 0: none. Entered like a signal handler on the
                           scope's stack; rdi = depth index of the aborted scope, for all pads */
  uint64_t run_pad;     /* in: address of libsrs's code for the policy `run`, 0: none. Entered as a function, on the
                           scope's stack below what it holds, after the abort */
  /* out: the tag of the word at address a is at tag_base + (a & address_mask & ~7) */
  uint64_t tag_base;
  uint64_t address_mask;
  uint32_t store_mode;    /* SRS_STORE_LOG or SRS_STORE_STRICT */
  uint32_t isolation;     /* default of scopes that do not name one: enum srs_isolation */
  uint32_t policy;        /* likewise: enum srs_policy */
  uint32_t scope_thread;  /* 1: SRS_SCOPE=thread */
  uint64_t slots;         /* address of struct srs_slot[SRS_MAX_SLOTS] (for the wait-for graph; index 0 unused) */
  uint64_t abort_message; /* in: address of the C library's pointer to {uint32_t size; char text[]}, 0: none */
};

/* ---- What the landing code carries out, newest first (locks last): SRS_HC_LANDED ---- */

enum srs_action_kind { SRS_ACT_FREE = 1, SRS_ACT_UNLOCK = 2, SRS_ACT_CLOSE = 3 };
struct srs_action {
  uint64_t kind;   /* enum srs_action_kind */
  uint64_t arg;    /* block, lock or fd */
  uint64_t detail; /* size; enum srs_lock_kind */
};

/* What scopes write to a file (srs_file). */
enum srs_file_mode { SRS_FILE_PLAIN = 0, SRS_FILE_UNDO = 1 };

/* ---- Faults ---- */

enum srs_fault_kind {
  SRS_FAULT_NONE = 0,
  SRS_FAULT_LOAD,
  SRS_FAULT_STORE,
  SRS_FAULT_FETCH,        /* bad call or jump */
  SRS_FAULT_NONCANONICAL, /* #GP: non-canonical address or privileged instruction */
  SRS_FAULT_DIVIDE,
  SRS_FAULT_ILLEGAL,
  SRS_FAULT_STACK,     /* overflow of the scope's stack */
  SRS_FAULT_ABORT,     /* abort(), failed assert, a fatal signal to itself */
  SRS_FAULT_EXCEPTION, /* std::terminate with an exception in flight */
  SRS_FAULT_REPORTED,  /* srs_crash_suppression_os() */
  SRS_FAULT_POINTER,   /* srs_ptr_add / srs_ptr_check */
  SRS_FAULT_DEADLINE,
  SRS_FAULT_DEPENDENT, /* aborted because it built on an aborted scope's value */
  SRS_FAULT_ALIGNMENT,
  SRS_FAULT_KINDS
};

struct srs_fault_info {
  uint32_t kind;    /* enum srs_fault_kind */
  uint32_t signal;  /* what an unprotected process would have died of */
  uint64_t address; /* of the access; 0 where there is none */
  uint64_t ip;
  uint64_t user;
  uint64_t words_polluted, exposed;
  uint64_t abort_ns, land_ns; /* from the fault's exit to: memory right again; the landing code entered */
  char what[128];             /* one line for a person */
  uint64_t flags;             /* SRS_INFO_* */
};
#define SRS_INFO_OUTPUT_LEFT 1u /* bytes of the scope had left the process before it was aborted */

#ifdef __cplusplus
}
#endif
#endif
