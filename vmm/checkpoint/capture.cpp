#include "vmm/checkpoint/capture.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <fstream>

#include "vmm/checkpoint/state_access.hpp"
#include "vmm/clock.hpp"
#include "vmm/syscalls/rlimits.hpp"
#include "vmm/time_page.hpp"
#include "vmm/vdso.hpp"

namespace vmm {
namespace {

uint32_t own_umask() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Umask:")) return static_cast<uint32_t>(std::stoul(line.substr(6), nullptr, 8));
  }
  return 022;
}

std::string own_directory() {
  char text[4096];
  ssize_t const n = readlink("/proc/self/cwd", text, sizeof text);
  return n < 0 ? std::string() : std::string(text, static_cast<size_t>(n));
}

int64_t now_of(Process& process, clockid_t clock) {
  int64_t ns = 0;
  if (process.time_page && process.time_page->read(clock, ns)) return ns;
  timespec now{};
  clock_gettime(clock, &now);
  return to_ns(now);
}

// Where the page's clock is to the host's within this, it is only the page's own error.
constexpr int64_t kClockSlackNs = 50'000'000;

Result<void> restore_clock(GuestProcess& process, ProcessState const& state) {
  if (state.time_page != 0) {
    std::byte* const page = process.memory().alias(GuestAddr(state.time_page));
    Vma vma;
    if (page == nullptr || !process.memory().find_vma(GuestAddr(state.time_page), vma) || vma.name != "[vdso]") {
      return fail(Errc::kBadCheckpoint, "the guest's time page is not where it should be");
    }
    auto made = resume_time_page(page);
    if (!made) return tl::unexpected(made.error());
    process.time_page = std::move(*made);
    process.time_page_at = GuestAddr(state.time_page);
  }
  int64_t behind = state.monotonic_ns - now_of(process, CLOCK_MONOTONIC);
  if (behind > kClockSlackNs) {
    return fail(Errc::kBadCheckpoint, fmt::format("the guest's monotonic clock would go back by {:.3f} s",
                                                  static_cast<double>(behind) / 1e9));
  }
  while (behind > 0) {
    timespec const rest = to_timespec(behind);
    nanosleep(&rest, nullptr);
    behind = state.monotonic_ns - now_of(process, CLOCK_MONOTONIC);
  }
  return {};
}

}  // namespace

uint64_t vdso_hash() {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (std::byte const b : vdso_bytes()) hash = (hash ^ static_cast<uint64_t>(b)) * 0x100000001b3;
  return hash;
}

Result<ProcessState> capture_state(GuestProcess& process, SocketHooks const& hooks) {
  if (process.exiting()) return fail(Errc::kNotCheckpointable, "the guest is ending");
  if (process.view_open()) return fail(Errc::kBusy, "a thread of the guest is in a copy-on-write view");
  ProcessState state;
  state.window = process.memory().tag_base() - kHighBase;
  state.vdso_hash = vdso_hash();
  state.time_page = process.time_page_at.value;
  state.monotonic_ns = now_of(process, CLOCK_MONOTONIC);
  state.realtime_ns = now_of(process, CLOCK_REALTIME);
  state.layout = process.memory().layout();
  for (Vma const& vma : state.layout.vmas) {
    if (vma.backing != Backing::kSharedFile) continue;
    if (vma.name.empty() || vma.name[0] != '/' || vma.name.ends_with(" (deleted)") || vma.name.starts_with("/memfd:")) {
      return fail(
          Errc::kNotCheckpointable,
          fmt::format("the mapping at {:#x} is shared with a file without a name ({})", vma.start.value, vma.name));
    }
  }
  state.exe_path = process.exe_path;
  state.command_name = process.command_name;
  state.argv = process.argv;
  state.envp = process.envp;
  state.cwd = own_directory();
  state.umask = own_umask();
  auto const timers = StateAccess::hold_timers(process);
  bool registers = true;
  StateAccess::capture_threads(process, state, registers);
  if (!registers) return fail_host("KVM_GET_XSAVE", EIO);
  if (state.threads.empty()) return fail(Errc::kNotCheckpointable, "the guest is ending");
  StateAccess::capture_timers(process, state);
  StateAccess::capture_signals(process, state);
  auto fds = capture_fds(process, hooks);
  if (!fds) return tl::unexpected(fds.error());
  state.fds = std::move(*fds);
  return state;
}

Result<void> restore_state(GuestProcess& process, ProcessState const& state, SocketHooks const& hooks,
                           std::function<void(std::string const&)> const& note) {
  if (state.vdso_hash != vdso_hash()) {
    return fail(Errc::kBadCheckpoint, "the checkpoint was made by another build of vmsrs (its vDSO differs)");
  }
  if (state.window != process.memory().tag_base() - kHighBase) {
    return fail(Errc::kBadCheckpoint, "the guest's memory has another size");
  }
  auto const open_file = [](Vma const& vma) {
    int const fd = ::open(vma.name.c_str(), (vma.may_write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
  };
  if (auto r = process.memory().restore_layout(state.layout, open_file); !r) return r;
  if (auto r = restore_clock(process, state); !r) return r;
  process.exe_path = state.exe_path;
  process.command_name = state.command_name;
  process.argv = state.argv;
  process.envp = state.envp;
  if (!state.cwd.empty() && chdir(state.cwd.c_str()) != 0) {
    return fail_host(fmt::format("the guest's working directory {}", state.cwd));
  }
  ::umask(state.umask);
  if (auto r = restore_fds(process, state.fds, hooks, note); !r) return r;
  if (auto r = StateAccess::restore_timers(process, state); !r) return r;
  if (auto r = StateAccess::restore_threads(process, state); !r) return r;
  StateAccess::restore_signals(process, state);
  return {};
}

}  // namespace vmm
