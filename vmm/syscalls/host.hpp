// What every handler needs: host calls that answer -errno, an owned host fd, and short names for
// the argument kinds of a table row.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "vmm/address_space.hpp"
#include "vmm/fd_table.hpp"
#include "vmm/syscall.hpp"
#include "vmm/thread.hpp"

namespace vmm {

// A system call of the host, result as the kernel gives it; errno is left alone.
inline int64_t raw_host(long nr, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) {
  int64_t result = nr;
  register uint64_t r10 asm("r10") = a3;
  register uint64_t r8 asm("r8") = a4;
  register uint64_t r9 asm("r9") = a5;
  asm volatile("syscall"
               : "+a"(result)
               : "D"(a0), "S"(a1), "d"(a2), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

template <class T>
uint64_t host_arg(T value) {
  if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<uint64_t>(value);
  } else if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_signed_v<T>) {
    return static_cast<uint64_t>(static_cast<int64_t>(value));
  } else {
    return static_cast<uint64_t>(value);
  }
}

template <class... A>
int64_t host(long nr, A... args) {
  uint64_t v[6] = {host_arg(args)...};
  return raw_host(nr, v[0], v[1], v[2], v[3], v[4], v[5]);
}
// The same for a call that may block: kRestartSys if a kick came first.
template <class... A>
int64_t host_blocking(Thread& thread, long nr, A... args) {
  uint64_t v[6] = {host_arg(args)...};
  int64_t const result = thread.block_in(nr, v[0], v[1], v[2], v[3], v[4], v[5]);
  return result == -EINTR ? kRestartSys : result;
}

// An interrupted call's code is the one that Linux uses for this call.
inline int64_t restart_as(int64_t result, int64_t code) {
  return result == kRestartSys ? code : result;
}

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int64_t fd) : fd_(static_cast<int>(fd)) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

// Names of an fd of the monitor for calls that take only a path.
inline std::string fd_path(int host_fd) {
  return "/proc/thread-self/fd/" + std::to_string(host_fd);
}

// Puts a host fd just opened (or -errno) into the guest's table: a virtual fd, or -errno.
inline int64_t install_host_fd(Thread& thread, int64_t host_fd, bool cloexec, OpenFile::Kind kind) {
  if (host_fd < 0) return host_fd;
  return thread.fds().install(adopt_host_fd(static_cast<int>(host_fd), kind), cloexec);
}

inline int int_arg(SyscallArgs const& args, int index) {
  return static_cast<int>(args.a[static_cast<size_t>(index)]);
}
inline GuestAddr addr_arg(SyscallArgs const& args, int index) {
  return GuestAddr(args.a[static_cast<size_t>(index)]);
}

// A result that goes into guest memory: announced, then written. False: -EFAULT.
[[nodiscard]] inline bool write_out(Thread& thread, GuestAddr to, void const* from, uint64_t size) {
  thread.announce_out({to, size});
  return thread.memory().write(to, from, size);
}
template <class T>
[[nodiscard]] bool write_out(Thread& thread, GuestAddr to, T const& value) {
  return write_out(thread, to, &value, sizeof value);
}

namespace arg {
inline constexpr ArgSpec kNum{Arg::kInt};
inline constexpr ArgSpec kFd{Arg::kFd};
inline constexpr ArgSpec kAt{Arg::kFdOrCwd};
inline constexpr ArgSpec kPath{Arg::kPath};
inline constexpr ArgSpec kPathOrNull{Arg::kPath, 0, true};
inline constexpr ArgSpec kAddr{Arg::kAddr};
constexpr ArgSpec in(int32_t size) {
  return {Arg::kIn, size};
}
constexpr ArgSpec out(int32_t size) {
  return {Arg::kOut, size};
}
constexpr ArgSpec inout(int32_t size) {
  return {Arg::kInOut, size};
}
constexpr ArgSpec in_or_null(int32_t size) {
  return {Arg::kIn, size, true};
}
constexpr ArgSpec out_or_null(int32_t size) {
  return {Arg::kOut, size, true};
}
constexpr ArgSpec inout_or_null(int32_t size) {
  return {Arg::kInOut, size, true};
}
}  // namespace arg

}  // namespace vmm
