#include "vmm/fd_table.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

namespace vmm {

namespace {

struct HostLimit {
  rlim_t found = 1024;  // what the monitor was started with: the guest's own limit
  int high_base = 512;  // below this the monitor keeps nothing of the guest's

  // Raises the monitor's own limit as far as it may: it needs numbers for its threads' vCPUs too.
  HostLimit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    found = limit.rlim_cur;
    rlimit const most{limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &most) == 0) limit = most;
    high_base = static_cast<int>(std::min<rlim_t>(limit.rlim_cur / 2, 4096));
  }
};

HostLimit const& host_limit() {
  static HostLimit const limit;
  return limit;
}

int high_base() {
  return host_limit().high_base;
}

OpenFile::Kind kind_of(int host_fd) {
  struct stat st {};
  if (fstat(host_fd, &st) != 0) return OpenFile::Kind::kOther;
  if (S_ISREG(st.st_mode)) return OpenFile::Kind::kFile;
  if (S_ISDIR(st.st_mode)) return OpenFile::Kind::kDirectory;
  if (S_ISFIFO(st.st_mode)) return OpenFile::Kind::kPipe;
  if (S_ISSOCK(st.st_mode)) return OpenFile::Kind::kSocket;
  return OpenFile::Kind::kOther;
}

}  // namespace

OpenFile::~OpenFile() {
  for (auto const& [number, fd] : epoll_fds_) {
    if (fd != host_fd_) ::close(fd);
  }
  if (host_fd_ >= 0) ::close(host_fd_);
  if (undo_fd.load() >= 0) ::close(undo_fd.load());
  if (reader.load() >= 0) ::close(reader.load());
}

bool OpenFile::in_epoll() {
  std::lock_guard const lock(epoll_mutex_);
  return !epoll_fds_.empty();
}

int OpenFile::epoll_fd(int fd) {
  std::lock_guard const lock(epoll_mutex_);
  auto const it = std::ranges::find(epoll_fds_, fd, &std::pair<int, int>::first);
  if (it != epoll_fds_.end()) return it->second;
  int const stands = epoll_fds_.empty() ? host_fd_ : fcntl(host_fd_, F_DUPFD_CLOEXEC, high_base());
  if (stands < 0) return -errno;
  epoll_fds_.emplace_back(fd, stands);
  return stands;
}

int own_fd_directory() {
  static int const directory = move_fd_high(::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return directory;
}

std::string OpenFile::path() const {
  if (!path_.empty()) return path_;
  char text[PATH_MAX];
  ssize_t const length = readlinkat(own_fd_directory(), std::to_string(host_fd_).c_str(), text, sizeof text);
  return length < 0 ? std::string() : std::string(text, static_cast<size_t>(length));
}

int move_fd_high(int host_fd) {
  if (host_fd < 0 || host_fd >= high_base()) return host_fd;
  int const high = fcntl(host_fd, F_DUPFD_CLOEXEC, high_base());
  if (high < 0) return host_fd;
  ::close(host_fd);
  return high;
}

FileRef adopt_host_fd(int host_fd, std::string path) {
  return adopt_host_fd(host_fd, kind_of(host_fd), std::move(path));
}

FileRef adopt_host_fd(int host_fd, OpenFile::Kind kind, std::string path) {
  return std::make_shared<OpenFile>(kind, move_fd_high(host_fd), std::move(path));
}

FdTable::FdTable() {
  set_limit(host_limit().found);
}

void FdTable::adopt_standard_streams() {
  for (int fd = 0; fd < 3; ++fd) {
    // What the monitor was started with never closes on exec; what does is the monitor's own.
    int const flags = fcntl(fd, F_GETFD);
    if (flags < 0 || (flags & FD_CLOEXEC) != 0) continue;
    int const copy = fcntl(fd, F_DUPFD_CLOEXEC, high_base());
    if (copy < 0) continue;
    FileRef file = adopt_host_fd(copy);
    file->standard = fd;
    install_at(fd, std::move(file), false);
  }
}

FileRef FdTable::get(int fd) const {
  std::lock_guard const lock(mutex_);
  if (fd < 0 || static_cast<size_t>(fd) >= entries_.size()) return nullptr;
  return entries_[static_cast<size_t>(fd)].file;
}

int FdTable::lowest_free(int minimum) const {
  size_t at = static_cast<size_t>(minimum);
  while (at < entries_.size() && entries_[at].file) ++at;
  return at < limit_ ? static_cast<int>(at) : -EMFILE;
}

bool FdTable::full() const {
  std::lock_guard const lock(mutex_);
  return lowest_free(0) < 0;
}

int FdTable::install(FileRef file, bool cloexec, int minimum) {
  std::lock_guard const lock(mutex_);
  int const fd = lowest_free(minimum);
  if (fd < 0) return fd;
  if (entries_.size() <= static_cast<size_t>(fd)) entries_.resize(static_cast<size_t>(fd) + 1);
  entries_[static_cast<size_t>(fd)] = {std::move(file), cloexec};
  return fd;
}

int FdTable::install_at(int fd, FileRef file, bool cloexec) {
  Entry old;
  {
    std::lock_guard const lock(mutex_);
    if (fd < 0 || static_cast<uint64_t>(fd) >= limit_) return -EBADF;
    if (entries_.size() <= static_cast<size_t>(fd)) entries_.resize(static_cast<size_t>(fd) + 1);
    old = std::exchange(entries_[static_cast<size_t>(fd)], Entry{std::move(file), cloexec});
  }
  release(old);
  return fd;
}

bool FdTable::close(int fd) {
  Entry old;
  {
    std::lock_guard const lock(mutex_);
    if (fd < 0 || static_cast<size_t>(fd) >= entries_.size()) return false;
    old = std::exchange(entries_[static_cast<size_t>(fd)], Entry{});
  }
  if (!old.file) return false;
  release(old);
  return true;
}

void FdTable::release(Entry const& entry) {
  // POSIX: closing any descriptor of a file drops the process's record locks on it. The host sees
  // a close only with the last number, so it is shown one.
  if (entry.file && entry.file.use_count() > 1 && entry.file->record_locks) {
    int const copy = fcntl(entry.file->host_fd(), F_DUPFD_CLOEXEC, high_base());
    if (copy >= 0) ::close(copy);
  }
}

void FdTable::close_range(unsigned first, unsigned last, bool cloexec_only) {
  std::vector<Entry> closed;
  {
    std::lock_guard const lock(mutex_);
    for (size_t at = first; at < entries_.size() && at <= last; ++at) {
      if (!entries_[at].file) continue;
      if (cloexec_only) {
        entries_[at].cloexec = true;
      } else {
        closed.push_back(std::exchange(entries_[at], Entry{}));
      }
    }
  }
  for (Entry const& entry : closed) release(entry);
}

bool FdTable::cloexec(int fd) const {
  std::lock_guard const lock(mutex_);
  return fd >= 0 && static_cast<size_t>(fd) < entries_.size() && entries_[static_cast<size_t>(fd)].cloexec;
}

void FdTable::set_cloexec(int fd, bool on) {
  std::lock_guard const lock(mutex_);
  if (fd >= 0 && static_cast<size_t>(fd) < entries_.size()) {
    entries_[static_cast<size_t>(fd)].cloexec = on;
  }
}

std::vector<int> FdTable::open_numbers() const {
  std::lock_guard const lock(mutex_);
  std::vector<int> numbers;
  for (size_t at = 0; at < entries_.size(); ++at) {
    if (entries_[at].file) numbers.push_back(static_cast<int>(at));
  }
  return numbers;
}

void FdTable::set_limit(uint64_t limit) {
  std::lock_guard const lock(mutex_);
  limit_ = std::min<uint64_t>(limit, 1U << 20);
}

uint64_t FdTable::limit() const {
  std::lock_guard const lock(mutex_);
  return limit_;
}

}  // namespace vmm
