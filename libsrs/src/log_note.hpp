// Journal records of this thread, whatever the store mode.
#ifndef SRS_SRC_LOG_NOTE_HPP
#define SRS_SRC_LOG_NOTE_HPP

#include <srs/log.h>

#include "libsrs/src/thread.hpp"

namespace srs::lib {

inline void note_by_hypercall(srs_record_kind kind, uint64_t address, uint64_t a, uint64_t b) {
  srs_record record{srs_what(kind, 0, address), a, b, 0};
  hypercall(SRS_HC_RECORD, &record);
}

inline void note(Thread* t, srs_record_kind kind, uint64_t address, uint64_t a, uint64_t b = 0) {
  while (!srs_process_.strict) {
    int const result = srs_log_note(t->slot, kind, address, a, b);
    if (result == SRS_LOG_DONE) {
      t->notes = t->notes + 1;
      return;
    }
    if (result == SRS_LOG_NESTED) break;
    hypercall(SRS_HC_DRAIN);
  }
  note_by_hypercall(kind, address, a, b);
}

inline bool in_scope(Thread const* t) {
  return t->slot->depth != 0;
}
inline srs_scope_info& innermost(Thread* t) {
  return t->slot->scopes[t->slot->depth - 1];
}

// Begins a scope: its owner is the slot's from here on. The owner of before is returned.
inline uint64_t begin_owner(Thread* t, uint64_t options) {
  srs_slot* const slot = t->slot;
  uint64_t const outer = slot->owner;
  uint64_t const owner = srs_owner(slot->index, slot->next_number);
  slot->next_number = slot->next_number + 1;
  if (srs_process_.strict) {
    hypercall(SRS_HC_SCOPE, SRS_REC_BEGIN, owner, options);
  } else {
    note(t, SRS_REC_BEGIN, 0, owner, options);
  }
  set_owner(slot, owner);
  return outer;
}
inline void commit_owner(Thread* t, uint64_t outer) {
  if (srs_process_.strict) {
    hypercall(SRS_HC_SCOPE, SRS_REC_COMMIT, t->slot->owner, 0);
  } else {
    note(t, SRS_REC_COMMIT, 0, t->slot->owner);
  }
  set_owner(t->slot, outer);
}
// The innermost scope goes on under a fresh owner, and its landing with it.
inline void renew_owner(Thread* t) {
  srs_slot* const slot = t->slot;
  uint64_t const owner = srs_owner(slot->index, slot->next_number);
  slot->next_number = slot->next_number + 1;
  note(t, SRS_REC_RENEW, 0, owner);
  srs_landing& landing = slot->landings[slot->depth - 1];
  landing.owner = owner;
  landing.check = srs_landing_check(&landing, slot->key);
  set_owner(slot, owner);
}

}  // namespace srs::lib

#endif
