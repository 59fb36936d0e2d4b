// One run of a scope, as request.S sees it.
#ifndef SRS_SRC_REQUEST_HPP
#define SRS_SRC_REQUEST_HPP

#include <cstddef>

#include "libsrs/src/thread.hpp"

namespace srs::lib {

struct Run {
  void (*fn)(void*);
  void* arg;
  uint64_t stack_top;
  srs_landing* landing;
  uint64_t* critical;
  Thread* thread;
  uint64_t depth;  // live scopes before it
};
static_assert(offsetof(Run, stack_top) == 16 && offsetof(Run, landing) == 24 && offsetof(Run, critical) == 32);
static_assert(offsetof(srs_landing, rsp) == 8 && offsetof(srs_landing, r15) == 56);

}  // namespace srs::lib

extern "C" {
int srs_run_scope_(srs::lib::Run* run);
void srs_scope_opened_(srs::lib::Run* run);
uint64_t srs_landed_(uint64_t index);
void srs_landing_pad_(void);
[[noreturn]] void srs_land_(srs_landing const* landing, uint64_t index);
[[noreturn]] void srs_leave_(srs_landing const* landing);
[[noreturn]] void srs_unwind_from_(srs_landing const* landing, srs::lib::Thread* t);
[[noreturn]] void srs_unwind_here_(srs::lib::Thread* t);
}

#endif
