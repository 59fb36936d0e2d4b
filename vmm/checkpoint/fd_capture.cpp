// The guest's open files as data. Nothing here changes them: a pipe's content is looked at with tee(2), a counter or
// timer in the host's fdinfo.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>

#include "vmm/checkpoint/state_access.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmm {
namespace {

using Kind = OpenFile::Kind;
constexpr uint64_t kMostContent = 64 << 20;  // of one file without a name

// Lines "name: words" of /proc/self/fdinfo/N.
class FdInfo {
 public:
  explicit FdInfo(int host_fd) {
    ScopedFd const file(::open(fmt::format("/proc/self/fdinfo/{}", host_fd).c_str(), O_RDONLY | O_CLOEXEC));
    char chunk[4096];
    for (ssize_t n = 0; file.get() >= 0 && (n = ::read(file.get(), chunk, sizeof chunk)) > 0;) {
      text_.append(chunk, static_cast<size_t>(n));
    }
  }
  // What follows "name:" in each line that begins so.
  [[nodiscard]] std::vector<std::string> all(std::string_view name) const {
    std::vector<std::string> found;
    for (size_t at = 0; at < text_.size();) {
      size_t const end = std::min(text_.find('\n', at), text_.size());
      std::string_view const line(text_.data() + at, end - at);
      if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == ':') {
        size_t const value = line.find_first_not_of(" \t", name.size() + 1);
        found.emplace_back(value == std::string_view::npos ? std::string_view() : line.substr(value));
      }
      at = end + 1;
    }
    return found;
  }
  [[nodiscard]] bool number(std::string_view name, uint64_t& to, int base = 10) const {
    auto const lines = all(name);
    if (lines.empty()) return false;
    return std::from_chars(lines[0].data(), lines[0].data() + lines[0].size(), to, base).ec == std::errc();
  }

 private:
  std::string text_;
};

// "(12, 345)": seconds, nanoseconds.
bool parse_span(std::string const& text, timespec& to) {
  long seconds = 0, ns = 0;
  if (sscanf(text.c_str(), "(%ld, %ld)", &seconds, &ns) != 2) return false;
  to = {seconds, ns};
  return true;
}

bool read_all(int host_fd, uint64_t size, std::vector<std::byte>& to) {
  to.resize(size);
  for (uint64_t done = 0; done < size;) {
    ssize_t const n = pread(host_fd, to.data() + done, size - done, static_cast<off_t>(done));
    if (n <= 0) return false;
    done += static_cast<uint64_t>(n);
  }
  return true;
}

class Capture {
 public:
  Capture(Process& process, SocketHooks const& hooks) : process_(process), hooks_(hooks) {}

  Result<FdState> take() {
    FdTable& table = process_.fds();
    state_.limit = table.limit();
    for (int const number : table.open_numbers()) {
      FileRef const file = table.get(number);
      if (!file) continue;
      auto const [it, fresh] = index_.emplace(file.get(), static_cast<uint32_t>(files_.size()));
      if (fresh) {
        files_.push_back(file);
        first_number_.push_back(number);
      }
      state_.entries.push_back({number, it->second, table.cloexec(number)});
    }
    state_.objects.resize(files_.size());
    for (size_t i = 0; i < files_.size(); ++i) {
      if (auto r = object(*files_[i], state_.objects[i]); !r) return refuse(i, r.error());
    }
    for (size_t i = 0; i < files_.size(); ++i) {
      if (files_[i]->kind() != Kind::kEpoll) continue;
      if (auto r = epoll(*files_[i], state_.objects[i]); !r) return refuse(i, r.error());
    }
    if (auto r = ends(); !r) return tl::unexpected(r.error());
    return std::move(state_);
  }

 private:
  tl::unexpected<Error> refuse(size_t i, Error const& error) {
    return fail(error.code, fmt::format("descriptor {} ({}): {}", first_number_[i], files_[i]->path(), error.message),
                error.sys_errno);
  }
  static tl::unexpected<Error> no(std::string why) { return fail(Errc::kNotCheckpointable, std::move(why)); }

  Result<void> object(OpenFile& file, OpenFileState& o) {
    int const fd = file.host_fd();
    o.kind = static_cast<uint8_t>(file.kind());
    o.path = file.path();
    o.flags = fcntl(fd, F_GETFL);
    o.record_locks = file.record_locks;
    o.socket_timeout = file.socket_timeout;
    o.accepted = file.accepted;
    o.read_only = file.read_only;
    o.standard = file.standard;
    for (auto const& [number, host] : StateAccess::epoll_fds(file)) o.epoll_numbers.push_back(number);
    if (o.standard >= 0) return {};  // the restoring monitor's own takes its place
    struct stat st {};
    if (fstat(fd, &st) != 0) return fail_host("fstat");
    switch (file.kind()) {
      case Kind::kFile:
      case Kind::kMemFd:
      case Kind::kSynthetic:
        return regular(file, st, o);
      case Kind::kDirectory:
        o.offset = lseek(fd, 0, SEEK_CUR);
        return st.st_nlink == 0 ? Result<void>(no("a directory that is deleted")) : Result<void>{};
      case Kind::kPipe:
        return pipe(fd, st, o);
      case Kind::kEventFd:
        return event(fd, o);
      case Kind::kTimerFd:
        return timer(fd, o);
      case Kind::kSignalFd:
        o.mask = StateAccess::signal_mask(static_cast<SignalFd&>(file));
        o.semaphore = static_cast<SignalFd&>(file).nonblock;
        return {};
      case Kind::kEpoll:
        return {};
      case Kind::kSocket:
        return capture_socket(fd, o, hooks_);
      case Kind::kInotify:
        return no("an inotify set: what it watches cannot be told from it");
      case Kind::kOther:
        if (S_ISCHR(st.st_mode) && isatty(fd) == 0 && o.path.starts_with("/dev/")) return {};
        return no("neither file, pipe, socket nor a device that can be opened again");
    }
    return no("of an unknown kind");
  }

  Result<void> regular(OpenFile const& file, struct stat const& st, OpenFileState& o) {
    int const fd = file.host_fd();
    if ((o.flags & O_PATH) == 0) o.offset = lseek(fd, 0, SEEK_CUR);
    o.device = st.st_dev;
    o.inode = st.st_ino;
    o.size = static_cast<uint64_t>(st.st_size);
    o.mtime_ns = st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec;
    o.deleted = st.st_nlink == 0;
    bool const nameless = o.deleted || file.kind() != Kind::kFile;
    if (!nameless) return locks(fd, o);
    if (file.kind() == Kind::kMemFd) o.seals = fcntl(fd, F_GET_SEALS);
    if (o.size > kMostContent) return no(fmt::format("a file without a name that holds {} MiB", o.size >> 20));
    o.has_content = true;
    if ((o.flags & O_ACCMODE) != O_WRONLY) return read_all(fd, o.size, o.content) ? Result<void>{} : fail_host("pread");
    ScopedFd const again(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDONLY | O_CLOEXEC));
    return again.get() >= 0 && read_all(again.get(), o.size, o.content) ? Result<void>{} : fail_host("pread");
  }

  // "1: POSIX  ADVISORY  WRITE 1234 08:02:1234 0 EOF"
  static Result<void> locks(int fd, OpenFileState& o) {
    for (std::string const& line : FdInfo(fd).all("lock")) {
      char type[16] = {}, mode[16] = {}, access[16] = {}, end[32] = {};
      long long start = 0;
      if (sscanf(line.c_str(), "%*d: %15s %15s %15s %*d %*s %lld %31s", type, mode, access, &start, end) != 5) continue;
      FileLock lock;
      lock.posix = std::strcmp(type, "POSIX") == 0;
      if (!lock.posix && std::strcmp(type, "FLOCK") != 0) return no(fmt::format("a lock of the kind {}", type));
      lock.write = std::strcmp(access, "WRITE") == 0;
      lock.start = start;
      lock.end = std::strcmp(end, "EOF") == 0 ? -1 : std::strtoll(end, nullptr, 10);
      o.locks.push_back(lock);
    }
    return {};
  }

  Result<void> pipe(int fd, struct stat const& st, OpenFileState& o) {
    o.pipe_id = st.st_ino;
    o.write_end = (o.flags & O_ACCMODE) == O_WRONLY;
    o.capacity = fcntl(fd, F_GETPIPE_SZ);
    if (o.path.starts_with("/") && (o.flags & O_ACCMODE) == O_RDWR) return no("a named pipe opened for both");
    if (o.write_end) return {};
    int unread = 0;
    if (ioctl(fd, FIONREAD, &unread) != 0) return fail_host("FIONREAD");
    if (unread == 0) return {};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return fail_host("pipe2");
    ScopedFd const out(ends[0]), in(ends[1]);
    fcntl(in.get(), F_SETPIPE_SZ, o.capacity);
    ssize_t const copied = tee(fd, in.get(), static_cast<size_t>(unread), SPLICE_F_NONBLOCK);
    if (copied != unread)
      return copied < 0 ? fail_host("tee") : Result<void>(no("a pipe whose content cannot be seen"));
    o.content.resize(static_cast<size_t>(copied));
    for (size_t done = 0; done < o.content.size();) {
      ssize_t const n = ::read(out.get(), o.content.data() + done, o.content.size() - done);
      if (n <= 0) return fail_host("reading what tee gave");
      done += static_cast<size_t>(n);
    }
    return {};
  }

  static Result<void> event(int fd, OpenFileState& o) {
    FdInfo const info(fd);
    uint64_t semaphore = 0;
    if (!info.number("eventfd-count", o.count, 16)) return no("the host does not tell an eventfd's count");
    o.semaphore = info.number("eventfd-semaphore", semaphore) && semaphore != 0;
    return {};
  }

  static Result<void> timer(int fd, OpenFileState& o) {
    FdInfo const info(fd);
    uint64_t clock = 0, flags = 0;
    auto const value = info.all("it_value"), interval = info.all("it_interval");
    if (!info.number("clockid", clock) || !info.number("ticks", o.count) || value.empty() || interval.empty() ||
        !parse_span(value[0], o.left.it_value) || !parse_span(interval[0], o.left.it_interval)) {
      return no("the host does not tell a timerfd's state");
    }
    (void)info.number("settime flags", flags, 8);
    o.clock = static_cast<int>(clock);
    o.timer_flags = static_cast<int>(flags);
    return {};
  }

  // "tfd:        5 events:       19 data: 7fff00000005  pos:0 ino:0 sdev:0"
  Result<void> epoll(OpenFile const& file, OpenFileState& o) {
    if (by_host_fd_.empty()) {
      for (size_t i = 0; i < files_.size(); ++i) {
        for (auto const& [number, host] : StateAccess::epoll_fds(*files_[i])) {
          by_host_fd_[host] = {static_cast<uint32_t>(i), number};
        }
      }
    }
    for (std::string const& line : FdInfo(file.host_fd()).all("tfd")) {
      int host = 0;
      unsigned events = 0;
      unsigned long long data = 0;
      if (sscanf(line.c_str(), "%d events: %x data: %llx", &host, &events, &data) != 3) return no("an epoll set");
      auto const it = by_host_fd_.find(host);
      if (it == by_host_fd_.end()) return no("an epoll set holds a file that the guest has no descriptor for");
      o.epoll.push_back({it->second.first, it->second.second, events, data});
    }
    return {};
  }

  // Who holds the other ends of pipes and of Unix socket pairs.
  Result<void> ends() {
    std::map<uint64_t, std::pair<bool, bool>> pipes;  // read end, write end
    for (OpenFileState const& o : state_.objects) {
      if (o.kind != static_cast<uint8_t>(Kind::kPipe) || o.standard >= 0) continue;
      (o.write_end ? pipes[o.pipe_id].second : pipes[o.pipe_id].first) = true;
    }
    for (size_t i = 0; i < state_.objects.size(); ++i) {
      OpenFileState& o = state_.objects[i];
      if (o.kind != static_cast<uint8_t>(Kind::kPipe) || o.standard >= 0) continue;
      auto const& both = pipes[o.pipe_id];
      o.other_end_here = both.first && both.second;
    }
    std::map<uint64_t, uint32_t> sockets;  // inode → object
    for (size_t i = 0; i < state_.objects.size(); ++i) {
      struct stat st {};
      if (files_[i]->kind() == Kind::kSocket && fstat(files_[i]->host_fd(), &st) == 0) {
        sockets[st.st_ino] = static_cast<uint32_t>(i);
      }
    }
    for (OpenFileState& o : state_.objects) {
      SocketState& s = o.socket;
      if (s.role != SocketRole::kPair) continue;
      auto const peer = sockets.find(s.claimed_id);  // the peer's inode, as capture_socket left it
      s.claimed_id = 0;
      if (peer == sockets.end()) {
        s.role = SocketRole::kGone;
      } else {
        s.peer_object = peer->second;
      }
    }
    return {};
  }

  Process& process_;
  SocketHooks const& hooks_;
  FdState state_;
  std::vector<FileRef> files_;
  std::vector<int> first_number_;
  std::map<OpenFile*, uint32_t> index_;
  std::map<int, std::pair<uint32_t, int>> by_host_fd_;
};

}  // namespace

Result<FdState> capture_fds(Process& process, SocketHooks const& hooks) {
  return Capture(process, hooks).take();
}

}  // namespace vmm
