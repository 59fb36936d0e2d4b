// The monitor's error: what was tried, why it failed, and what the user can do. An errno is never
// lost.
#pragma once

#include <cerrno>
#include <string>
#include <tl/expected.hpp>

namespace vmm {

enum class Errc {
  kNoKvm,              // /dev/kvm is missing
  kKvmPermission,      // /dev/kvm cannot be opened by this user
  kKvmCapability,      // this KVM lacks something that the monitor needs
  kHostCall,           // a host system call or ioctl failed
  kNoProgram,          // the program does not exist or cannot be executed
  kNotElf,             // neither ELF nor script
  kWrongArchitecture,  // not x86-64
  kNoInterpreter,      // the ELF interpreter or the #! interpreter is missing
  kBadElf,             // damaged or unsupported ELF
  kRegionExhausted,    // the guest's memory region is full
  kTooManyThreads,     // no vCPU left
  kBadOption,
  kBusy,               // somebody else uses it: ask again later
  kBadCheckpoint,      // a checkpoint that is damaged, or does not fit
  kNotCheckpointable,  // the guest has something that no checkpoint can hold
};

struct Error {
  Errc code = Errc::kHostCall;
  std::string message;  // whole sentence for a person, no trailing newline
  int sys_errno = 0;    // 0 where no system call failed
};

template <class T>
using Result = tl::expected<T, Error>;

// "KVM_CREATE_VCPU (3): Too many open files"
[[nodiscard]] Error host_error(std::string what, int err = errno);
[[nodiscard]] inline tl::unexpected<Error> fail(Errc code, std::string message, int err = 0) {
  return tl::unexpected<Error>(Error{code, std::move(message), err});
}
[[nodiscard]] inline tl::unexpected<Error> fail_host(std::string what, int err = errno) {
  return tl::unexpected<Error>(host_error(std::move(what), err));
}

}  // namespace vmm
