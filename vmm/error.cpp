#include "vmm/error.hpp"

#include <fmt/format.h>

#include <cstring>

namespace vmm {

Error host_error(std::string what, int err) {
  return Error{Errc::kHostCall, fmt::format("{}: {} (errno {})", what, strerror(err), err), err};
}

}  // namespace vmm
