// The policy `run`, in the guest: between the abort and the rest of the scope.
#include <srs/srs.h>

#include "libsrs/src/heap.hpp"
#include "libsrs/src/landing.hpp"

using namespace srs::lib;

// Entered by the monitor after the abort, on the scope's stack below the faulted frame. First what is left of the
// abort, in the main memory: from then on the thread holds nothing that others wait for. Then, in the view, this
// library forgets that there is a monitor; and the scope goes on behind the instruction that faulted.
extern "C" __attribute__((visibility("hidden"))) void srs_run_pad_(uint64_t index) {
  Thread* const t = thread_if_known();
  if (t == nullptr || index >= SRS_MAX_DEPTH || index >= t->slot->depth) die("running on without a scope");
  after_abort(t, static_cast<uint32_t>(index), false);
  t->slot->critical = 0;
  if (hypercall(SRS_HC_RUN, SRS_RUN_ENTER) == 0) {
    detach_restricted();
    hypercall(SRS_HC_RUN, SRS_RUN_GO);
  }
  die("the monitor lost a thread that was to run on");
}
