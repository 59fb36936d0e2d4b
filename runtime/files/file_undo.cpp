#include "runtime/files/file_undo.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

#include "runtime/files/undo_log.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime::files {
namespace {

constexpr char const* kOwner = "owner";

constexpr uint64_t kExiting = 0x4;  // PF_EXITING, in the flags of a task (proc(5))

// A number of /proc/…/stat, by its place in proc(5); nothing: no such process.
std::optional<uint64_t> stat_field(std::string const& task, int number) {
  std::ifstream file(task + "/stat");
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  size_t const name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int i = 3; i < number; ++i) fields >> field;
  uint64_t value = 0;
  fields >> value;
  return value;
}

// When it began, by which a number that was given again is told.
std::optional<uint64_t> start_of(pid_t pid) {
  return stat_field(fmt::format("/proc/{}", pid), 22);
}

timespec time_of(int64_t ns) {
  return {ns / 1'000'000'000, ns % 1'000'000'000};
}

class Undo {
 public:
  Undo(std::function<void(std::string const&)> const& note, Undone& undone) : note_(note), undone_(undone) {}

  void take_back(UndoRecord const& record) {
    std::string const path(record.path);
    bool good = false;
    errno = 0;
    switch (record.kind) {
      case UndoRecord::Kind::kBytes:
        good = bytes(path, record);
        break;
      case UndoRecord::Kind::kStatus:
        good = status(path, record.status);
        break;
      case UndoRecord::Kind::kCreated:
        good = unlink(path.c_str()) == 0 || errno == ENOENT || rmdir(path.c_str()) == 0;
        break;
      case UndoRecord::Kind::kRemoved:
        good = bring_back(path, record);
        break;
      case UndoRecord::Kind::kRenamed:
        // Where the old name is there the change was never made: the primary was lost before it.
        good = renameat2(AT_FDCWD, std::string(record.other).c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0;
        good = good || errno == EEXIST || errno == ENOENT;
        break;
      case UndoRecord::Kind::kExchanged:
        good = renameat2(AT_FDCWD, std::string(record.other).c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0;
        break;
      case UndoRecord::Kind::kNotMade:
        return;
    }
    if (good) {
      undone_.changes += 1;
      undone_.bytes += record.data.size();
    } else {
      note_(fmt::format("{}: what was done to it is not undone: {}", path, std::strerror(errno)));
    }
  }

 private:
  // After each change: the oldest one, undone last, leaves the times from before them all.
  static bool set_times(std::string const& path, FileStatus const& was) {
    timespec const times[2] = {time_of(was.accessed_ns), time_of(was.modified_ns)};
    return utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0;
  }
  static bool write_all(int fd, std::span<std::byte const> data, uint64_t offset) {
    while (!data.empty()) {
      ssize_t const n = pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      data = data.subspan(static_cast<size_t>(n));
      offset += static_cast<uint64_t>(n);
    }
    return true;
  }

  bool bytes(std::string const& path, UndoRecord const& record) {
    vmm::ScopedFd const fd(open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (fd.get() < 0) return false;
    struct stat st {};
    if (fstat(fd.get(), &st) != 0) return false;
    if (!S_ISREG(st.st_mode)) {
      errno = EINVAL;
      return false;
    }
    if (static_cast<uint64_t>(st.st_size) != record.status.size &&
        ftruncate(fd.get(), static_cast<off_t>(record.status.size)) != 0)
      return false;
    if (!write_all(fd.get(), record.data, record.offset)) return false;
    // Writing takes the set-user-id bits off.
    if ((record.status.mode & (S_ISUID | S_ISGID)) != 0) (void)fchmod(fd.get(), record.status.mode & 07777);
    return set_times(path, record.status);
  }

  bool status(std::string const& path, FileStatus const& was) {
    if (lchown(path.c_str(), was.user, was.group) != 0) return false;
    if (!S_ISLNK(was.mode) && chmod(path.c_str(), was.mode & 07777) != 0) return false;
    return set_times(path, was);
  }

  bool bring_back(std::string const& path, UndoRecord const& record) {
    std::string const text(reinterpret_cast<char const*>(record.data.data()), record.data.size());
    switch (record.status.mode & S_IFMT) {
      case S_IFREG: {
        vmm::ScopedFd const fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (fd.get() < 0) return errno == EEXIST;
        if (!write_all(fd.get(), record.data, 0)) return false;
        break;
      }
      case S_IFDIR:
        if (mkdir(path.c_str(), 0700) != 0) return errno == EEXIST;
        break;
      case S_IFLNK:
        if (symlink(text.c_str(), path.c_str()) != 0) return errno == EEXIST;
        break;
      case S_IFIFO:
        if (mkfifo(path.c_str(), 0600) != 0) return errno == EEXIST;
        break;
      default:
        // A socket's name without its socket: whoever comes is refused, as before its owner listens again.
        if (mknod(path.c_str(), S_IFSOCK | 0600, 0) != 0) return errno == EEXIST;
        break;
    }
    return status(path, record.status);
  }

  std::function<void(std::string const&)> const& note_;
  Undone& undone_;
};

std::vector<Segment> segments_of(std::string const& folder, std::error_code& error) {
  std::vector<Segment> found;
  for (auto const& entry : std::filesystem::directory_iterator(folder, error)) {
    Segment s;
    int end = 0;
    std::string const name = entry.path().filename().string();
    if (std::sscanf(name.c_str(), "undo.%lu.%lu.%lu%n", &s.term, &s.sequence, &s.epoch, &end) == 3 &&
        static_cast<size_t>(end) == name.size())
      found.push_back(s);
  }
  return found;
}

}  // namespace

std::string Segment::name() const {
  return fmt::format("undo.{}.{}.{}", term, sequence, epoch);
}

vmm::Result<void> claim(std::string const& folder) {
  std::string const to = folder + "/" + kOwner;
  std::string const next = fmt::format("{}.{}", to, getpid());
  std::ofstream file(next);
  file << getpid() << ' ' << start_of(getpid()).value_or(0) << '\n';
  file.close();
  if (!file || std::rename(next.c_str(), to.c_str()) != 0) return vmm::fail_host(to);
  return {};
}

bool has_stopped(pid_t pid) {
  std::error_code error;
  for (auto const& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), error)) {
    auto const flags = stat_field(task.path().string(), 9);
    if (flags && (*flags & kExiting) == 0) return false;
  }
  return !error || error == std::errc::no_such_file_or_directory;
}

vmm::Result<void> fence(std::string const& folder, std::function<void(std::string const&)> const& note) {
  std::string const name = folder + "/" + kOwner;
  std::ifstream owner(name);
  if (!owner) return {};  // nobody has claimed it, so nobody has kept or changed anything that could be gone back from
  pid_t pid = 0;
  uint64_t start = 0;
  if (!(owner >> pid >> start)) return vmm::fail(vmm::Errc::kHostCall, name + ": it does not say who the primary was");
  if (pid == getpid()) return {};
  vmm::ScopedFd const process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (process.get() < 0 && errno == ESRCH) return {};
  if (process.get() < 0) return vmm::fail_host(fmt::format("pidfd_open of the old primary, process {}", pid));
  if (start_of(pid) != start) return {};
  if (syscall(SYS_pidfd_send_signal, process.get(), SIGKILL, nullptr, 0) != 0 && errno != ESRCH)
    return vmm::fail_host(fmt::format("the old primary, process {}, cannot be killed", pid));
  pollfd gone{process.get(), POLLIN, 0};
  for (int waited_ms = 1;; ++waited_ms) {
    int const r = poll(&gone, 1, 1);
    if (r > 0 || has_stopped(pid)) return {};
    if (r < 0 && errno != EINTR) return vmm::fail_host("poll");
    if (waited_ms % 1000 == 0)
      note(fmt::format("waiting for the end of the old primary, process {}, which may still write files", pid));
  }
}

vmm::Result<Undone> undo_after(std::string const& folder, uint64_t term, uint64_t epoch,
                               std::function<void(std::string const&)> const& note) {
  std::error_code error;
  std::vector<Segment> segments = segments_of(folder, error);
  if (error) return vmm::fail_host(folder, error.value());
  std::ranges::sort(segments, [](Segment const& a, Segment const& b) {
    return std::pair(a.term, a.sequence) > std::pair(b.term, b.sequence);
  });
  Undone undone;
  Undo undo(note, undone);
  for (Segment const& segment : segments) {
    if (std::pair(segment.term, segment.epoch) < std::pair(term, epoch)) continue;
    auto done =
        for_each_backwards(folder + "/" + segment.name(), [&](UndoRecord const& record) { undo.take_back(record); });
    if (!done) return tl::unexpected(done.error());
  }
  for (Segment const& segment : segments) (void)unlink((folder + "/" + segment.name()).c_str());
  return undone;
}

}  // namespace vmsrs::runtime::files
