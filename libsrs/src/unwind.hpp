// Policy `unwind`: after the abort, the destructors of the scope's frames run, then the scope lands.
#ifndef SRS_SRC_UNWIND_HPP
#define SRS_SRC_UNWIND_HPP

#include "libsrs/src/thread.hpp"

namespace srs::lib {

// Whatever destructors are left are given up; the scope lands now.
[[noreturn]] void unwind_end(Thread* t);

}  // namespace srs::lib

// Entered by the monitor on the scope's stack as the handler of a signal that interrupted the faulting instruction;
// rdi = depth index of the aborted scope.
extern "C" void srs_unwind_pad_(uint64_t index);

#endif
