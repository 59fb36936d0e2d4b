// Files whose writes an abort takes back: the monitor's work (runtime/scope_effects.hpp).
#include <srs/srs.h>

#include <cerrno>

#include "libsrs/src/thread.hpp"

extern "C" int srs_file(int fd, enum srs_file_mode mode) {
  using namespace srs::lib;
  if (restricted() || thread() == nullptr) return 0;
  long const result = hypercall(SRS_HC_FILE, fd, mode);
  if (result == 0) return 0;
  errno = static_cast<int>(-result);
  return -1;
}
