// The memory whose plain stores are logged: what srs_will_store_() looks at. Only grows.
#ifndef SRS_SRC_MONITORED_HPP
#define SRS_SRC_MONITORED_HPP

#include <cstdint>

namespace srs::lib {

// From now on the range counts. Thread-safe. If there is no room for it, its stores are not logged.
void monitored_add(uint64_t begin, uint64_t size);
// Reads SRS_MONITOR; at the attach.
void monitored_choose();

}  // namespace srs::lib

#endif
