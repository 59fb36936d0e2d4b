// The one way to the monitor: a system call with a private number. In a file of its own so that tests can link the
// rest of the library against a host of theirs.
#ifndef SRS_SRC_HYPERCALL_HPP
#define SRS_SRC_HYPERCALL_HPP

#include <srs/abi.h>

// The result of hypercall `number` (enum srs_hypercall), or -errno; -ENOSYS outside the monitor. errno is kept.
extern "C" long srs_hypercall_(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d);

namespace srs::lib {

template <class... Args>
inline long hypercall(long number, Args... args) {
  uint64_t const v[4] = {(uint64_t)args...};
  return srs_hypercall_(number, v[0], v[1], v[2], v[3]);
}

}  // namespace srs::lib

#endif
