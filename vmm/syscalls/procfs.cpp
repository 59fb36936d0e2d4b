#include "vmm/syscalls/procfs.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstring>
#include <string_view>

#include "vmm/process.hpp"
#include "vmm/syscalls/host.hpp"
#include "vmm/syscalls/procfs_text.hpp"

namespace vmm {

namespace {

struct Name {
  std::string_view name;
  ProcKind kind;
};

// What a process's directory holds; names not here do not exist.
constexpr std::array kNames{
    Name{"fd", ProcKind::kDirectory},       Name{"fdinfo", ProcKind::kDirectory},
    Name{"net", ProcKind::kDirectory},      Name{"task", ProcKind::kDirectory},
    Name{"cmdline", ProcKind::kText},       Name{"comm", ProcKind::kText},
    Name{"environ", ProcKind::kText},       Name{"limits", ProcKind::kText},
    Name{"maps", ProcKind::kText},          Name{"oom_score_adj", ProcKind::kText},
    Name{"stat", ProcKind::kText},          Name{"statm", ProcKind::kText},
    Name{"status", ProcKind::kText},        Name{"cwd", ProcKind::kLink},
    Name{"exe", ProcKind::kLink},           Name{"root", ProcKind::kLink},
    Name{"cgroup", ProcKind::kHostFile},    Name{"cpuset", ProcKind::kHostFile},
    Name{"gid_map", ProcKind::kHostFile},   Name{"loginuid", ProcKind::kHostFile},
    Name{"mountinfo", ProcKind::kHostFile}, Name{"mounts", ProcKind::kHostFile},
    Name{"setgroups", ProcKind::kHostFile}, Name{"uid_map", ProcKind::kHostFile},
    Name{"attr", ProcKind::kDenied},        Name{"auxv", ProcKind::kDenied},
    Name{"clear_refs", ProcKind::kDenied},  Name{"io", ProcKind::kDenied},
    Name{"map_files", ProcKind::kDenied},   Name{"mem", ProcKind::kDenied},
    Name{"ns", ProcKind::kDenied},          Name{"pagemap", ProcKind::kDenied},
    Name{"personality", ProcKind::kDenied}, Name{"smaps", ProcKind::kDenied},
    Name{"stack", ProcKind::kDenied},       Name{"syscall", ProcKind::kDenied},
};

int number(std::string_view text) {
  int value = -1;
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool const whole = error == std::errc{} && end == text.data() + text.size() && value >= 0;
  return whole && (text.size() == 1 || text[0] != '0') ? value : -1;
}

// Strips {"task", tid}; tid 0: none. False: no such thread.
bool split_task(Thread& thread, ProcNode const& node, int& tid, std::vector<std::string>& rest) {
  rest = node.parts;
  tid = 0;
  if (rest.size() >= 2 && rest[0] == "task") {
    tid = number(rest[1]);
    if (tid != thread.tid() && !thread.process().with_thread(tid, [](Thread&) {})) return false;
    rest.erase(rest.begin(), rest.begin() + 2);
    if (!rest.empty() && rest[0] == "task") return false;
  }
  return true;
}

std::string read_link(char const* path) {
  char text[PATH_MAX];
  ssize_t const length = ::readlink(path, text, sizeof text);
  return length < 0 ? std::string() : std::string(text, static_cast<size_t>(length));
}

}  // namespace

ProcKind proc_kind(Thread& thread, ProcNode const& node) {
  int tid = 0;
  std::vector<std::string> rest;
  if (!split_task(thread, node, tid, rest)) return ProcKind::kMissing;
  if (rest.empty()) return ProcKind::kDirectory;
  if (rest[0][0] == '@') return ProcKind::kLink;
  auto const* const found =
      std::find_if(kNames.begin(), kNames.end(), [&](Name const& n) { return n.name == rest[0]; });
  if (found == kNames.end()) return ProcKind::kMissing;
  if (rest.size() == 1) return found->kind;
  if (found->kind == ProcKind::kDenied) return ProcKind::kDenied;
  if (rest.size() > 2) return ProcKind::kMissing;
  if (rest[0] == "fd" || rest[0] == "fdinfo") {
    if (!thread.fds().get(number(rest[1]))) return ProcKind::kMissing;
    return rest[0] == "fd" ? ProcKind::kLink : ProcKind::kText;
  }
  if (rest[0] == "net") return ProcKind::kHostFile;
  return ProcKind::kMissing;
}

std::string proc_text(Thread& thread, ProcNode const& node) {
  int tid = 0;
  std::vector<std::string> rest;
  if (!split_task(thread, node, tid, rest) || rest.empty()) return {};
  if (rest[0] == "fdinfo" && rest.size() == 2) {
    FileRef const file = thread.fds().get(number(rest[1]));
    return file ? proc_fdinfo_text(*file) : std::string();
  }
  return proc_process_text(thread, tid, rest[0]);
}

std::string proc_host_path(ProcNode const& node) {
  size_t const skip = node.parts.size() > 2 && node.parts[0] == "task" ? 2 : 0;
  std::string path = "/proc/thread-self";
  for (size_t i = skip; i < node.parts.size(); ++i) path += "/" + node.parts[i];
  return path;
}

std::string proc_link(Thread& thread, ProcNode const& node) {
  std::string pid = std::to_string(Process::pid());
  std::string const& name = node.parts.back();
  if (name == "@self") return pid;
  if (name == "@thread-self") return pid + "/task/" + std::to_string(thread.tid());
  if (name == "exe") return thread.process().exe_path;
  if (name == "cwd") return read_link("/proc/thread-self/cwd");
  if (name == "root") return "/";
  FileRef const file = proc_fd_target(thread, node);
  return file ? file->path() : std::string();
}

FileRef proc_fd_target(Thread& thread, ProcNode const& node) {
  size_t const size = node.parts.size();
  if (size < 2 || node.parts[size - 2] != "fd") return nullptr;
  return thread.fds().get(number(node.parts.back()));
}

std::vector<ProcEntry> proc_entries(Thread& thread, ProcNode const& node) {
  std::vector<ProcEntry> entries{{".", DT_DIR}, {"..", DT_DIR}};
  int tid = 0;
  std::vector<std::string> rest;
  if (!split_task(thread, node, tid, rest)) return entries;
  if (rest.empty()) {
    for (Name const& n : kNames) {
      if (tid != 0 && n.name == "task") continue;
      unsigned char const type = n.kind == ProcKind::kDirectory ? DT_DIR : n.kind == ProcKind::kLink ? DT_LNK : DT_REG;
      entries.push_back({std::string(n.name), type});
    }
  } else if (rest[0] == "fd" || rest[0] == "fdinfo") {
    unsigned char const type = rest[0] == "fd" ? DT_LNK : DT_REG;
    for (int const fd : thread.fds().open_numbers()) entries.push_back({std::to_string(fd), type});
  } else if (rest[0] == "task") {
    thread.process().for_each_thread([&](Thread& t) { entries.push_back({std::to_string(t.tid()), DT_DIR}); });
  } else if (rest[0] == "net") {
    if (DIR* const dir = ::opendir("/proc/thread-self/net")) {
      while (dirent const* const entry = ::readdir(dir)) {
        if (entry->d_type == DT_REG) entries.push_back({entry->d_name, DT_REG});
      }
      ::closedir(dir);
    }
  }
  return entries;
}

bool proc_own_directory(Thread& thread, std::string const& name, ProcNode& node, bool& other) {
  other = false;
  node.parts.clear();
  if (name == "self") return true;
  if (name == "thread-self") {
    node.parts = {"task", std::to_string(thread.tid())};
    return true;
  }
  if (name.empty() || !std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return false;
  }
  int const pid = number(name);
  if (pid == Process::pid() || pid == ::getpid()) return true;
  if (pid == thread.tid() || (pid > 0 && thread.process().with_thread(pid, [](Thread&) {}))) {
    node.parts = {"task", name};
    return true;
  }
  other = true;
  return false;
}

bool proc_root_denied(std::string const& name) {
  constexpr std::array<std::string_view, 9> kDenied{"kcore", "kmsg",      "kpagecgroup",   "kpagecount", "kpageflags",
                                                    "keys",  "key-users", "sysrq-trigger", "vmallocinfo"};
  return std::find(kDenied.begin(), kDenied.end(), name) != kDenied.end();
}

bool put_dirent(std::byte* to, size_t size, size_t& used, std::string const& name, unsigned char type, uint64_t inode,
                int64_t next) {
  // struct linux_dirent64, getdents64(2): inode, offset, record length, type, name.
  size_t const length = (19 + name.size() + 1 + 7) & ~size_t{7};
  if (length > size - used) return false;
  std::byte* const at = to + used;
  auto const length16 = static_cast<uint16_t>(length);
  std::memset(at, 0, length);
  std::memcpy(at, &inode, 8);
  std::memcpy(at + 8, &next, 8);
  std::memcpy(at + 16, &length16, 2);
  std::memcpy(at + 18, &type, 1);
  std::memcpy(at + 19, name.data(), name.size());
  used += length;
  return true;
}

int64_t ProcDirectory::read(Thread& thread, void* to, size_t size) {
  std::lock_guard const lock(mutex_);
  if (at_ == 0) entries_ = proc_entries(thread, node_);
  size_t used = 0;
  while (at_ < entries_.size()) {
    ProcEntry const& entry = entries_[at_];
    if (!put_dirent(static_cast<std::byte*>(to), size, used, entry.name, entry.type, at_ + 2,
                    static_cast<int64_t>(at_ + 1))) {
      if (used == 0) return -EINVAL;
      break;
    }
    ++at_;
  }
  return static_cast<int64_t>(used);
}

int64_t ProcDirectory::seek(int64_t offset, int whence) {
  std::lock_guard const lock(mutex_);
  int64_t const base = whence == SEEK_CUR ? static_cast<int64_t>(at_) : 0;
  if (whence != SEEK_SET && whence != SEEK_CUR) return -EINVAL;
  if (offset < -base || offset > INT_MAX) return -EINVAL;
  at_ = static_cast<size_t>(base + offset);
  return base + offset;
}

}  // namespace vmm
