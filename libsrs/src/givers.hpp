// Who gave a lock up while what it had written was not committed (isolation `track`): the next taker depends on it.
#ifndef SRS_SRC_GIVERS_HPP
#define SRS_SRC_GIVERS_HPP

#include <cstdint>

namespace srs::lib {

// Called while the lock is held, so one lock's entries are in the lock's own order.
void giver_set(void const* lock, uint64_t owner);
// The owner tag of the last giver, 0 if none is known: it never set one, or newer locks took its place.
uint64_t giver_of(void const* lock);

}  // namespace srs::lib

#endif
