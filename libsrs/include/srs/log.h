/* The guest's half of the log: the steps of abi.h's head comment, as inline functions on a slot and
 * raw pointers. libsrs and the store's model test run this same code. C and C++; x86-64 (total
 * store order) only.
 *
 * One thread owns a slot; no function here blocks, calls or allocates. `tag` is where the word's
 * tag lives; `word` is 8-aligned; `mask` has a bit for each byte stored; `value` has those bytes in
 * their places of the word.
 *
 * A store is two steps (atomic objects: srs_log_swap, srs_swap_step; commuting updates:
 * srs_log_delta, srs_delta_step): switch (srs_log_store(slot, tag, word, mask, value)) { case
 * SRS_LOG_OWNED:  plain store; nothing else to do case SRS_LOG_DONE:   srs_store_step(slot, word,
 * mask, value), or any plain store and then srs_log_end(slot) case SRS_LOG_FULL:   SRS_HC_DRAIN,
 * then again from the start case SRS_LOG_NESTED: a signal handler interrupted a log step of this
 * thread: SRS_HC_STORE (it does it all)
 *   }
 */
#ifndef SRS_LOG_H
#define SRS_LOG_H

#include "srs/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

enum srs_log_result { SRS_LOG_OWNED = 0, SRS_LOG_DONE = 1, SRS_LOG_FULL = 2, SRS_LOG_NESTED = 3 };

/* The bytes `mask` of a word as a bit mask: 0x03 -> 0xffff. */
static inline uint64_t srs_mask_bits(uint64_t mask) {
  uint64_t const low = (mask & 1) | (mask & 2) << 7 | (mask & 4) << 14 | (mask & 8) << 21 | (mask & 16) << 28 |
                       (mask & 32) << 35 | (mask & 64) << 42 | (mask & 128) << 49;
  return low * 0xff;
}

/* Whether the current owner has these bytes logged already. */
static inline int srs_log_owned(struct srs_slot const* slot, uint64_t tag, uint64_t mask) {
  return srs_tag_owner(tag) == slot->owner && (tag & mask) == mask;
}

/* Claims ring[head] for this thread: its index in *index, or FULL, or NESTED. DONE: the claim
 * stands, and lasts until srs_log_end(). */
static inline int srs_log_claim(struct srs_slot* slot, uint64_t* index) {
  uint64_t head;
  if (__builtin_expect(slot->pending != 0, 0)) return SRS_LOG_NESTED;
  do { /* a handler may log between the load and the claim; once claimed, it uses the hypercall */
    head = __atomic_load_n(&slot->head, __ATOMIC_RELAXED);
    /* signed: the host's tail may be one ahead, when it took a record that was not published yet */
    if (__builtin_expect(
            (int64_t)(head - __atomic_load_n(&slot->tail, __ATOMIC_ACQUIRE)) >= (int64_t)slot->ring_records, 0)) {
      slot->pending = 0;
      return SRS_LOG_FULL;
    }
    __atomic_store_n(&slot->pending, head + 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
  } while (__builtin_expect(__atomic_load_n(&slot->head, __ATOMIC_RELAXED) != head, 0));
  *index = head;
  return SRS_LOG_DONE;
}

static inline struct srs_record* srs_log_at(struct srs_slot const* slot, uint64_t index) {
  return (struct srs_record*)(uintptr_t)slot->ring + (index & (slot->ring_records - 1));
}

/* Word by word: the host may be reading, and goes by the check word. */
static inline void srs_log_put(struct srs_slot const* slot, uint64_t index, struct srs_record const* record) {
  struct srs_record* const r = srs_log_at(slot, index);
  __atomic_store_n(&r->what, record->what, __ATOMIC_RELAXED);
  __atomic_store_n(&r->a, record->a, __ATOMIC_RELAXED);
  __atomic_store_n(&r->b, record->b, __ATOMIC_RELAXED);
  __atomic_store_n(&r->check, record->check, __ATOMIC_RELAXED);
}

/* What was announced is in memory now. */
static inline void srs_log_end(struct srs_slot* slot) {
  __atomic_store_n(&slot->pending, 0, __ATOMIC_RELEASE);
}

/* Replaces a tag if it is still `seen`. shared: other guest threads may do the same now, so the bus
 * is locked (5 ns here). Otherwise only the host may: one instruction without the lock does (1 ns),
 * since the host marks the tag busy, makes every processor pass an instruction boundary
 * (membarrier) and then looks whether its mark stood. */
static inline int srs_tag_swap(uint64_t* tag, uint64_t seen, uint64_t fresh, int shared) {
  int done;
  if (shared) {
    return __atomic_compare_exchange_n(tag, &seen, fresh, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
  }
  __asm__ volatile("cmpxchgq %3, %1" : "=@ccz"(done), "+m"(*tag), "+a"(seen) : "r"(fresh) : "memory");
  return done;
}

/* A store half-way. srs_log_word() goes through these at once; the store's model test takes them one at a time. */
struct srs_log_step {
  struct srs_record record;
  uint64_t index;
  uint64_t
      claims; /* the bytes that the tag will name; none for a delta: a store by the same owner must still be logged */
};

/* Step 3, up to the swap. 0: the host is at this word, try again. */
static inline int srs_log_prepare(struct srs_slot* slot, uint64_t const* tag, uint64_t const* word, uint64_t kind,
                                  uint64_t mask, uint64_t addend, struct srs_log_step* step) {
  struct srs_record* const r = srs_log_at(slot, step->index);
  uint64_t const seen = __atomic_load_n(tag, __ATOMIC_ACQUIRE);
  if (__builtin_expect(srs_tag_owner(seen) == SRS_OWNER_BUSY, 0)) return 0;
  __builtin_prefetch(r + 8, 1);                                            /* a ring outgrows the first-level cache */
  step->record.what = kind << 56 | mask << 48 | (uint64_t)(uintptr_t)word; /* a higher address faults just below */
  __atomic_store_n(&r->what, step->record.what, __ATOMIC_RELAXED);
  step->claims = kind == SRS_REC_DELTA ? 0 : mask;
  step->record.a = kind == SRS_REC_DELTA ? addend : __atomic_load_n(word, __ATOMIC_RELAXED);
  __atomic_store_n(&r->a, step->record.a, __ATOMIC_RELAXED);
  step->record.b = seen;
  __atomic_store_n(&r->b, seen, __ATOMIC_RELAXED);
  step->record.check = srs_record_check(&step->record, slot->key, step->index);
  __atomic_store_n(&r->check, step->record.check, __ATOMIC_RELAXED);
  return 1;
}

/* The swap. 0: somebody came between, prepare again. */
static inline int srs_log_take(struct srs_slot const* slot, uint64_t* tag, int shared,
                               struct srs_log_step const* step) {
  return srs_tag_swap(tag, step->record.b, srs_tag_next(step->record.b, slot->owner, step->claims), shared);
}

/* Step 4. */
static inline void srs_log_publish(struct srs_slot* slot, struct srs_log_step const* step) {
  __atomic_store_n(&slot->head, step->index + 1, __ATOMIC_RELEASE);
  __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the store itself stays below */
}

/* Steps 2 to 4 without a look at the tag's owner. */
static inline int srs_log_word(struct srs_slot* slot, uint64_t* tag, uint64_t* word, uint64_t kind, uint64_t mask,
                               uint64_t value, uint64_t addend, int shared) {
  struct srs_log_step step;
  int const claimed = srs_log_claim(slot, &step.index);
  if (__builtin_expect(claimed != SRS_LOG_DONE, 0)) return claimed;
  __atomic_store_n(&slot->pending_value, value, __ATOMIC_RELAXED);
  for (;;) {
    if (__builtin_expect(!srs_log_prepare(slot, tag, word, kind, mask, addend, &step), 0)) {
      __builtin_ia32_pause();
    } else if (__builtin_expect(srs_log_take(slot, tag, shared, &step), 1)) {
      break;
    }
  }
  srs_log_publish(slot, &step);
  return SRS_LOG_DONE;
}

/* Steps 1 to 4 of a store. */
static inline int srs_log_store(struct srs_slot* slot, uint64_t* tag, uint64_t* word, uint64_t mask, uint64_t value) {
  if (srs_log_owned(slot, __atomic_load_n(tag, __ATOMIC_RELAXED), mask)) return SRS_LOG_OWNED;
  /* A whole word has one writer at a time, by the program's own locks; bytes of one word may have
   * several. */
  return srs_log_word(slot, tag, word, SRS_REC_STORE, mask, value, 0, mask != 0xff);
}

/* Log step for an atomic object that threads write without a lock: always logged, also when the bytes are this scope's
 * already. `*old`: the word as recorded. Then srs_swap_step(). (libsrs's own atomics hold a lock of their word's stripe
 * instead; this is the way for who has none.) */
static inline int srs_log_swap(struct srs_slot* slot, uint64_t* tag, uint64_t* word, uint64_t mask, uint64_t value,
                               uint64_t* old) {
  int const result = srs_log_word(slot, tag, word, SRS_REC_STORE, mask, value, 0, 1);
  /* The newest record: from the claim to srs_log_end() no handler adds one. */
  if (result == SRS_LOG_DONE) *old = srs_log_at(slot, slot->head - 1)->a;
  return result;
}

/* Stores to an atomic object if its bytes still are as recorded; 0: they are not, nothing was stored, log again from
 * the start (the record left behind does no harm: it undoes to what the next record found). So the order of the log is
 * the order of the stores. */
static inline int srs_swap_step(struct srs_slot* slot, uint64_t* word, uint64_t mask, uint64_t old, uint64_t value) {
  uint64_t const bits = srs_mask_bits(mask);
  uint64_t seen = old;
  int done = 0;
  while (!done && ((seen ^ old) & bits) == 0) {
    done = __atomic_compare_exchange_n(word, &seen, (seen & ~bits) | (value & bits), 0, __ATOMIC_SEQ_CST,
                                       __ATOMIC_RELAXED);
  }
  srs_log_end(slot);
  return done;
}

/* Step 5 for any mask, also one with gaps: never writes a byte outside it (a neighbour may own it).
 */
static inline void srs_store_step(struct srs_slot* slot, uint64_t* word, uint64_t mask, uint64_t value) {
  unsigned char* const bytes = (unsigned char*)word;
  if (mask == 0xff) {
    __atomic_store_n(word, value, __ATOMIC_RELAXED);
  } else {
    for (unsigned i = 0; i < 8; ++i) {
      if (mask >> i & 1) __atomic_store_n(&bytes[i], (unsigned char)(value >> 8 * i), __ATOMIC_RELAXED);
    }
  }
  srs_log_end(slot);
}

/* Log step of a commuting update: `addend` (in its place of the word) is added to the integer in
 * bytes `mask`, modulo its width. Always logged: also when the word is this scope's own. Then
 * srs_delta_step() does it. */
static inline int srs_log_delta(struct srs_slot* slot, uint64_t* tag, uint64_t* word, uint64_t mask, uint64_t addend) {
  uint64_t const bits = srs_mask_bits(mask);
  uint64_t const old = __atomic_load_n(word, __ATOMIC_RELAXED);
  return srs_log_word(slot, tag, word, SRS_REC_DELTA, mask, ((old & bits) + addend) & bits, addend, 1);
}

/* Returns the word as it was. Compare-and-swap rather than an add, so that each try is announced
 * with its result. */
static inline uint64_t srs_delta_step(struct srs_slot* slot, uint64_t* word, uint64_t mask, uint64_t addend) {
  uint64_t const bits = srs_mask_bits(mask);
  uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
  uint64_t fresh;
  do {
    fresh = (old & ~bits) | (((old & bits) + addend) & bits);
    __atomic_store_n(&slot->pending_value, fresh, __ATOMIC_RELAXED);
  } while (!__atomic_compare_exchange_n(word, &old, fresh, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
  srs_log_end(slot);
  return old;
}

/* A record that stores nothing: begin, commit, alloc, free, lock, unlock, final, renew. DONE, FULL
 * or NESTED (then SRS_HC_SCOPE or SRS_HC_RECORD). */
static inline int srs_log_note(struct srs_slot* slot, uint64_t kind, uint64_t addr, uint64_t a, uint64_t b) {
  uint64_t index;
  struct srs_record copy;
  int const claimed = srs_log_claim(slot, &index);
  if (__builtin_expect(claimed != SRS_LOG_DONE, 0)) return claimed;
  copy.what = srs_what(kind, 0, addr);
  copy.a = a;
  copy.b = b;
  copy.check = srs_record_check(&copy, slot->key, index);
  srs_log_put(slot, index, &copy);
  __atomic_store_n(&slot->head, index + 1, __ATOMIC_RELEASE);
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  srs_log_end(slot);
  return SRS_LOG_DONE;
}

/* Begins a scope inside the current one: BEGIN, then slot->owner is the new scope's. The caller
 * keeps slot->owner of before for the commit, and fills slot->scopes[] and slot->landings[] itself.
 * options: srs_isolation and its own bits. */
static inline int srs_log_begin(struct srs_slot* slot, uint64_t options) {
  uint64_t const owner = srs_owner(slot->index, slot->next_number);
  int const result = srs_log_note(slot, SRS_REC_BEGIN, 0, owner, options);
  if (result == SRS_LOG_DONE) {
    slot->next_number++;
    slot->owner = owner;
  }
  return result;
}

/* Ends the innermost scope; `outer` is slot->owner of before its begin. */
static inline int srs_log_commit(struct srs_slot* slot, uint64_t outer) {
  int const result = srs_log_note(slot, SRS_REC_COMMIT, 0, slot->owner, 0);
  if (result == SRS_LOG_DONE) slot->owner = outer;
  return result;
}

/* The innermost scope goes on under a fresh owner. */
static inline int srs_log_renew(struct srs_slot* slot) {
  uint64_t const owner = srs_owner(slot->index, slot->next_number);
  int const result = srs_log_note(slot, SRS_REC_RENEW, 0, owner, 0);
  if (result == SRS_LOG_DONE) {
    slot->next_number++;
    slot->owner = owner;
  }
  return result;
}

#ifdef __cplusplus
}
#endif
#endif
