// Makes the variables of the module that this is linked into known at its start.
#include <srs/instrument.h>

extern "C" {
char srs_i_module_ = 0;  // named by the wrappers' link line
}

namespace {

__attribute__((constructor(102))) void module_starts() {
  srs_monitor_module_(&srs_i_module_);
}

}  // namespace
