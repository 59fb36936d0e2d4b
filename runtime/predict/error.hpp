// The predictor's error: a whole sentence for a person, and the errno of the call that failed.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <tl/expected.hpp>

namespace vmsrs::predict {

struct Error {
  std::string message;  // no trailing newline; names the file and the line where there is one
  int sys_errno = 0;    // 0 where no system call failed
};

template <class T>
using Result = tl::expected<T, Error>;

[[nodiscard]] inline tl::unexpected<Error> fail(std::string message, int err = 0) {
  return tl::unexpected<Error>(Error{std::move(message), err});
}
[[nodiscard]] inline tl::unexpected<Error> fail_host(std::string const& what, int err = errno) {
  return tl::unexpected<Error>(Error{what + ": " + std::strerror(err), err});
}

}  // namespace vmsrs::predict
