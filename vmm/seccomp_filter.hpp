// A second line of defence: what a thread that runs guest code can ask of the host kernel, should the monitor be led to
// ask it. The tables of vmm/syscalls are the first line.
#pragma once

#include <thread>
#include <utility>

namespace vmm {

// From here on the calling thread, and each that it makes, gets EPERM for what no handler ever needs: other programs
// and processes, other name spaces and mounts, the kernel's own modules, and descriptors that no table knows. Does
// nothing where that holds already. False, with a line on stderr at the first time: the host has no such filters.
bool install_seccomp_filter();
// Whether this thread installed it or is marked as made by one that did.
[[nodiscard]] bool seccomp_filter_on() noexcept;
// For a thread that was made by one where it is on: the kernel handed the filter down, so there is nothing to install.
void seccomp_filter_inherited() noexcept;

// A thread with the filter, whichever thread makes it.
template <class F>
[[nodiscard]] std::thread start_filtered(F f) {
  return std::thread([f = std::move(f), inherited = seccomp_filter_on()] {
    if (inherited) seccomp_filter_inherited();
    install_seccomp_filter();
    f();
  });
}

}  // namespace vmm
