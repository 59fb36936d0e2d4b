#include "runtime/detect/proc.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>

namespace vmsrs::runtime::detect {
namespace {

// A small file of procfs, at once. Empty: it cannot be read.
std::string_view read_small(char const* path, std::array<char, 1024>& buffer) {
  vmm::ScopedFd const file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return {};
  ssize_t const n = ::read(file.get(), buffer.data(), buffer.size() - 1);
  if (n <= 0) return {};
  buffer[static_cast<size_t>(n)] = 0;
  return {buffer.data(), static_cast<size_t>(n)};
}

std::optional<ProcessState> state_in(std::string const& path) {
  std::array<char, 1024> buffer;
  auto const line = read_small(path.c_str(), buffer);
  size_t const name_end = line.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  ProcessState s;
  // proc(5): state is field 3, starttime field 22.
  if (std::sscanf(line.data() + name_end + 1,
                  " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64, &s.state,
                  &s.start_ticks) != 2) {
    return std::nullopt;
  }
  return s;
}

}  // namespace

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

char thread_state(int pid, int tid) {
  auto const state = state_in(fmt::format("/proc/{}/task/{}/stat", pid, tid));
  return state ? state->state : '?';
}

std::optional<ProcessState> process_state(int pid) {
  return state_in(fmt::format("/proc/{}/stat", pid));
}

ProcessId own_process_id() {
  int const pid = getpid();
  auto const state = process_state(pid);
  return process_id(pid, state ? state->start_ticks : 0);
}

bool is_alive(ProcessId id) {
  auto const state = process_state(pid_of(id));
  return state && state->state != 'Z' && state->state != 'X' && process_id(pid_of(id), state->start_ticks) == id;
}

void ask_for_promptness() noexcept {
  constexpr int kNice = -10;
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
}

std::optional<vmm::ScopedFd> open_process(ProcessId id) {
  vmm::ScopedFd fd(static_cast<int>(syscall(SYS_pidfd_open, pid_of(id), 0)));
  // Looked at after the open: what the descriptor names is this process, or one that came later and has another start.
  if (!fd || !is_alive(id)) return std::nullopt;
  return fd;
}

std::optional<double> HostCpu::use() {
  std::array<char, 1024> buffer;
  auto const text = read_small("/proc/stat", buffer);
  std::array<uint64_t, 8> t{};  // user nice system idle iowait irq softirq steal
  if (!text.starts_with("cpu ") ||
      std::sscanf(text.data(),
                  "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                  &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) < 4) {
    return std::nullopt;
  }
  uint64_t total = 0;
  for (uint64_t const part : t) total += part;
  uint64_t const busy = total - t[3] - t[4];
  bool const first = total_ == 0;
  // A host that takes a processor away may count backwards.
  uint64_t const passed = total > total_ ? total - total_ : 0, used = busy > busy_ ? busy - busy_ : 0;
  total_ = total, busy_ = busy;
  if (first || passed == 0) return std::nullopt;
  return std::min(1.0, static_cast<double>(used) / static_cast<double>(passed));
}

}  // namespace vmsrs::runtime::detect
