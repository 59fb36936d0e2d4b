#include "vmm/syscalls/rlimits.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <array>
#include <map>
#include <mutex>

#include "vmm/process.hpp"

namespace vmm {

namespace {

struct State {
  std::mutex mutex;
  std::array<rlimit, RLIM_NLIMITS> limits{};
  std::map<int, std::string> names;

  State() {
    for (int i = 0; i < RLIM_NLIMITS; ++i) {
      limits[static_cast<size_t>(i)] = {RLIM_INFINITY, RLIM_INFINITY};
      getrlimit(static_cast<__rlimit_resource>(i), &limits[static_cast<size_t>(i)]);
    }
  }
};

State& state() {
  static State s;
  return s;
}

struct Row {
  char const* name;
  char const* unit;
};
// In the order of RLIMIT_*, with the names of /proc/self/limits.
constexpr std::array<Row, RLIM_NLIMITS> kRows{{{"Max cpu time", "seconds"},
                                               {"Max file size", "bytes"},
                                               {"Max data size", "bytes"},
                                               {"Max stack size", "bytes"},
                                               {"Max core file size", "bytes"},
                                               {"Max resident set", "bytes"},
                                               {"Max processes", "processes"},
                                               {"Max open files", "files"},
                                               {"Max locked memory", "bytes"},
                                               {"Max address space", "bytes"},
                                               {"Max file locks", "locks"},
                                               {"Max pending signals", "signals"},
                                               {"Max msgqueue size", "bytes"},
                                               {"Max nice priority", ""},
                                               {"Max realtime priority", ""},
                                               {"Max realtime timeout", "us"}}};

std::string shown(uint64_t value) {
  return value == RLIM_INFINITY ? "unlimited" : std::to_string(value);
}

}  // namespace

int64_t get_rlimit(Thread& thread, unsigned resource, uint64_t& soft, uint64_t& hard) {
  if (resource >= RLIM_NLIMITS) return -EINVAL;
  std::lock_guard const lock(state().mutex);
  rlimit const& limit = state().limits[resource];
  soft = resource == RLIMIT_NOFILE ? thread.fds().limit() : limit.rlim_cur;
  hard = std::max<uint64_t>(limit.rlim_max, soft);
  return 0;
}

int64_t set_rlimit(Thread& thread, unsigned resource, uint64_t soft, uint64_t hard) {
  if (resource >= RLIM_NLIMITS || soft > hard) return -EINVAL;
  std::lock_guard const lock(state().mutex);
  rlimit& limit = state().limits[resource];
  if (hard > limit.rlim_max) return -EPERM;
  limit = {soft, hard};
  if (resource == RLIMIT_NOFILE) thread.fds().set_limit(soft);
  return 0;
}

std::string rlimits_text(Thread& thread) {
  std::string text = fmt::format("{:<26}{:<21}{:<21}{:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
  for (unsigned i = 0; i < RLIM_NLIMITS; ++i) {
    uint64_t soft = 0, hard = 0;
    if (get_rlimit(thread, i, soft, hard) != 0) continue;
    text += fmt::format("{:<26}{:<21}{:<21}{:<10}\n", kRows[i].name, shown(soft), shown(hard), kRows[i].unit);
  }
  return text;
}

std::string thread_name(Thread& thread, int tid) {
  std::lock_guard const lock(state().mutex);
  auto const found = state().names.find(tid);
  return found != state().names.end() ? found->second : thread.process().command_name;
}

void set_thread_name(Thread& thread, std::string name) {
  std::lock_guard const lock(state().mutex);
  if (thread.tid() == Process::pid()) {
    thread.process().command_name = std::move(name);
  } else {
    auto& names = state().names;
    // Threads come and go; the names of those that went are dropped when they have piled up.
    if (names.size() >= 512) {
      std::erase_if(names,
                    [&](auto const& entry) { return !thread.process().with_thread(entry.first, [](Thread&) {}); });
    }
    names[thread.tid()] = std::move(name);
  }
}

}  // namespace vmm
