#include "vmm/syscalls/procfs_text.hpp"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "vmm/process.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/rlimits.hpp"

namespace vmm {

namespace {

std::string maps_text(Thread& thread) {
  std::string text;
  for (Vma const& vma : thread.memory().vmas()) {
    std::string line = fmt::format("{:08x}-{:08x} {}{}{}{} {:08x} 00:00 0", vma.start.value, vma.end.value,
                                   (vma.prot & PROT_READ) != 0 ? 'r' : '-', (vma.prot & PROT_WRITE) != 0 ? 'w' : '-',
                                   (vma.prot & PROT_EXEC) != 0 ? 'x' : '-',
                                   vma.backing == Backing::kSharedFile ? 's' : 'p', vma.file_offset);
    if (!vma.name.empty()) {
      line.resize(std::max<size_t>(line.size() + 1, 73), ' ');
      line += vma.name;
    }
    text += line + "\n";
  }
  return text;
}

std::string joined(std::vector<std::string> const& strings) {
  std::string text;
  for (std::string const& s : strings) {
    text += s;
    text += '\0';
  }
  return text;
}

struct Usage {
  uint64_t pages, resident_pages;
  rusage times{};
  unsigned threads;
};

Usage usage_of(Thread& thread, int tid) {
  Usage usage{};
  usage.pages = thread.memory().mapped_bytes() / kPageSize;
  getrusage(tid == 0 ? RUSAGE_SELF : RUSAGE_THREAD, &usage.times);
  // The monitor's own resident set is small beside the guest's, which it holds.
  uint64_t size = 0, resident = 0;
  std::ifstream("/proc/thread-self/statm") >> size >> resident;
  usage.resident_pages = std::min(resident, usage.pages);
  usage.threads = std::max(1U, thread.process().thread_count());
  return usage;
}

uint64_t ticks(timeval const& time) {
  return static_cast<uint64_t>(time.tv_sec) * 100 + static_cast<uint64_t>(time.tv_usec) / 10000;
}

std::string comm_of(Thread& thread, int tid) {
  if (tid != 0 && tid != Process::pid()) return thread_name(thread, tid);
  return thread.process().command_name;
}

std::string stat_text(Thread& thread, int tid) {
  Usage const usage = usage_of(thread, tid);
  int const pid = Process::pid();
  // Fields of proc(5) /proc/pid/stat, 1 to 52; what the guest cannot know or has not is 0.
  return fmt::format(
      "{} ({}) R 1 {} {} 0 -1 4194304 {} 0 {} 0 {} {} 0 0 20 0 {} 0 {} {} {} "
      "18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 {} 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
      tid == 0 ? pid : tid, comm_of(thread, tid), pid, pid, usage.times.ru_minflt, usage.times.ru_majflt,
      ticks(usage.times.ru_utime), ticks(usage.times.ru_stime), usage.threads, start_ticks(), usage.pages * kPageSize,
      usage.resident_pages, 0);
}

// The host's text with what is the monitor's own replaced.
std::string status_text(Thread& thread, int tid) {
  Usage const usage = usage_of(thread, tid);
  auto const kib = [](uint64_t pages) { return fmt::format("{:8} kB", pages * 4); };
  std::string text;
  std::ifstream in("/proc/thread-self/status");
  for (std::string line; std::getline(in, line);) {
    std::string const key = line.substr(0, line.find(':'));
    std::string value;
    int const pid = Process::pid();
    if (key == "Name")
      value = comm_of(thread, tid);
    else if (key == "State")
      value = "R (running)";
    else if (key == "Tgid")
      value = std::to_string(pid);
    else if (key == "Pid")
      value = std::to_string(tid == 0 ? pid : tid);
    else if (key == "PPid")
      value = "1";
    else if (key == "TracerPid")
      value = "0";
    else if (key == "FDSize")
      value = std::to_string(thread.fds().open_numbers().size());
    else if (key == "VmPeak" || key == "VmSize" || key == "VmData")
      value = kib(usage.pages);
    else if (key == "VmHWM" || key == "VmRSS")
      value = kib(usage.resident_pages);
    else if (key == "Threads")
      value = std::to_string(usage.threads);
    else if (key == "Seccomp" || key == "Seccomp_filters" || key == "NoNewPrivs")
      value = "0";
    else if (key.starts_with("NS") || key.starts_with("Vm") || key.starts_with("Rss") || key.starts_with("Sig") ||
             key.starts_with("Shd") || key == "Kthread" || key.starts_with("x86_") || key == "CoreDumping" ||
             key == "THP_enabled") {
      continue;
    } else {
      text += line + "\n";
      continue;
    }
    text += fmt::format("{}:\t{}\n", key, value);
  }
  return text;
}

}  // namespace

uint64_t start_ticks() {
  static uint64_t const start = [] {
    std::ifstream in("/proc/self/stat");
    std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    size_t const close = text.rfind(')');
    std::istringstream fields(close == std::string::npos ? "" : text.substr(close + 1));
    std::string field;
    for (int i = 3; i <= 22; ++i) fields >> field;  // field 22 is starttime
    return std::strtoull(field.c_str(), nullptr, 10);
  }();
  return start;
}

std::string proc_process_text(Thread& thread, int tid, std::string_view name) {
  if (name == "maps") return maps_text(thread);
  if (name == "cmdline") return joined(thread.process().argv);
  if (name == "environ") return joined(thread.process().envp);
  if (name == "comm") return comm_of(thread, tid) + "\n";
  if (name == "limits") return rlimits_text(thread);
  if (name == "oom_score_adj") return "0\n";
  if (name == "stat") return stat_text(thread, tid);
  if (name == "status") return status_text(thread, tid);
  if (name == "statm") {
    Usage const usage = usage_of(thread, tid);
    return fmt::format("{} {} 0 0 0 {} 0\n", usage.pages, usage.resident_pages, usage.pages);
  }
  return {};
}

std::string proc_fdinfo_text(OpenFile const& file) {
  std::string text;
  std::ifstream in("/proc/thread-self/fdinfo/" + std::to_string(file.host_fd()));
  // What follows these lines may name the monitor's own fds (epoll's targets).
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("pos:") || line.starts_with("flags:") || line.starts_with("mnt_id:") ||
        line.starts_with("ino:") || line.starts_with("eventfd-count:") || line.starts_with("ticks:")) {
      text += line + "\n";
    }
  }
  return text;
}

}  // namespace vmm
