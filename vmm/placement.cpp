#include "vmm/placement.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace vmm {

void Placement::adopt(int host_tid, cpu_set_t const& own) noexcept {
  std::lock_guard lock(mutex_);
  own_[host_tid] = own;
  apply(host_tid, own);
}

void Placement::forget(int host_tid) noexcept {
  std::lock_guard lock(mutex_);
  own_.erase(host_tid);
}

cpu_set_t Placement::own(int host_tid) noexcept {
  std::lock_guard lock(mutex_);
  if (auto const found = own_.find(host_tid); found != own_.end()) return found->second;
  cpu_set_t host{};
  sched_getaffinity(host_tid, sizeof host, &host);
  return host;
}

// A processor that went offline, or a cpuset that became smaller, makes the kernel refuse: then it stays as it is.
void Placement::apply(int host_tid, cpu_set_t const& own) const noexcept {
  cpu_set_t left{}, taken{};
  CPU_AND(&taken, &own, &reserved_);
  CPU_XOR(&left, &own, &taken);
  sched_setaffinity(host_tid, sizeof left, CPU_COUNT(&left) != 0 ? &left : &own);
}

int64_t Placement::get(int host_tid, size_t size, void* to) noexcept {
  std::lock_guard lock(mutex_);
  long const n = syscall(SYS_sched_getaffinity, host_tid, size, to);
  if (n < 0) return -errno;
  if (auto const found = own_.find(host_tid); found != own_.end() && CPU_COUNT(&reserved_) != 0) {
    std::memcpy(to, &found->second, std::min(static_cast<size_t>(n), sizeof found->second));
  }
  return n;
}

int64_t Placement::set(int host_tid, size_t size, void const* from) noexcept {
  std::lock_guard lock(mutex_);
  if (syscall(SYS_sched_setaffinity, host_tid, size, from) != 0) return -errno;
  auto const found = own_.find(host_tid);
  if (found == own_.end()) return 0;
  sched_getaffinity(host_tid, sizeof found->second, &found->second);  // what the kernel made of it
  if (CPU_COUNT(&reserved_) != 0) apply(host_tid, found->second);
  return 0;
}

void Placement::reserve(cpu_set_t const& processors) noexcept {
  std::lock_guard lock(mutex_);
  if (CPU_EQUAL(&processors, &reserved_) != 0) return;
  reserved_ = processors;
  for (auto const& [tid, own] : own_) apply(tid, own);
}

}  // namespace vmm
