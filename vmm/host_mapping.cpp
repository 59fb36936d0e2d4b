#include "vmm/host_mapping.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace vmm {

void broken(char const* what, uint64_t start, uint64_t size) {
  int const err = errno;
  fmt::print(stderr, "vmsrs: the monitor is broken and stops: {} at {:#x} ({} KiB): {}{}\n", what, start, size >> 10,
             strerror(err), err == ENOMEM ? " (is vm.max_map_count too small?)" : "");
  std::abort();
}

}  // namespace vmm
