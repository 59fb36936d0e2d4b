// What both ways out of an aborted scope (landing, unwinding) do first.
#ifndef SRS_SRC_LANDING_HPP
#define SRS_SRC_LANDING_HPP

#include "libsrs/src/thread.hpp"

namespace srs::lib {

// The thread stands wherever the fault struck, perhaps inside this library: makes its record whole, carries out the
// abort's actions, forgets what the scope put off. With `remember`, what was given back is kept in Thread::undone.
void after_abort(Thread* t, uint32_t index, bool remember);

}  // namespace srs::lib

#endif
