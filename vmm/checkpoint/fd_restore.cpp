// The guest's open files made again from a checkpoint.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "vmm/checkpoint/state_access.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmm {
namespace {

using Kind = OpenFile::Kind;
constexpr int kStatusFlags = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_ASYNC;
constexpr int kOpenFlags =
    O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_PATH | O_DIRECTORY | O_DSYNC | O_SYNC;

class Restore {
 public:
  Restore(Process& process, FdState const& state, SocketHooks const& hooks,
          std::function<void(std::string const&)> const& note)
      : process_(process), state_(state), hooks_(hooks), note_(note), files_(state.objects.size()) {}

  Result<void> make() {
    process_.fds().set_limit(state_.limit);
    numbers_.resize(state_.objects.size());
    for (FdEntryState const& entry : state_.entries) numbers_[entry.object].push_back(entry.number);
    for (size_t i = 0; i < state_.objects.size(); ++i) {
      if (files_[i]) continue;  // the other end of one before
      if (auto r = object(i); !r) return refuse(i, r.error());
    }
    for (FdEntryState const& entry : state_.entries) {
      if (!files_[entry.object]) continue;  // a standard stream that is closed here
      int const r = process_.fds().install_at(entry.number, files_[entry.object], entry.cloexec);
      if (r < 0) return refuse(entry.object, host_error("its number", -r));
    }
    for (size_t i = 0; i < state_.objects.size(); ++i) {
      if (auto r = epoll(i); !r) return refuse(i, r.error());
    }
    return {};
  }

 private:
  tl::unexpected<Error> refuse(size_t i, Error const& error) {
    return fail(error.code,
                fmt::format("descriptor {} ({}): {}", numbers_[i].empty() ? -1 : numbers_[i][0], state_.objects[i].path,
                            error.message),
                error.sys_errno);
  }
  void adopt(size_t i, int host_fd, std::string path = {}) {
    OpenFileState const& o = state_.objects[i];
    FileRef file = adopt_host_fd(host_fd, static_cast<Kind>(o.kind), std::move(path));
    file->record_locks = o.record_locks;
    file->socket_timeout = o.socket_timeout;
    file->accepted = o.accepted;
    file->read_only = o.read_only;
    file->standard = o.standard;
    for (int const number : o.epoll_numbers) (void)file->epoll_fd(number);
    files_[i] = std::move(file);
  }
  Result<void> take(size_t i, int host_fd, std::string const& what, std::string path = {}) {
    if (host_fd < 0) return fail_host(what, -host_fd);
    int const status = state_.objects[i].flags & kStatusFlags;
    if (status != 0) fcntl(host_fd, F_SETFL, status);
    adopt(i, host_fd, std::move(path));
    return {};
  }
  static int result(int fd) { return fd < 0 ? -errno : fd; }

  Result<void> object(size_t i) {
    OpenFileState const& o = state_.objects[i];
    if (o.standard >= 0) {
      int const copy = fcntl(o.standard, F_DUPFD_CLOEXEC, 3);
      if (copy >= 0) adopt(i, copy);
      return {};
    }
    switch (static_cast<Kind>(o.kind)) {
      case Kind::kFile:
        return o.has_content ? nameless(i) : named(i);
      case Kind::kMemFd:
      case Kind::kSynthetic:
        return nameless(i);
      case Kind::kDirectory: {
        int const fd =
            result(::open(o.path.c_str(), (o.flags & (O_PATH | O_NOATIME)) | O_DIRECTORY | O_RDONLY | O_CLOEXEC));
        if (fd >= 0 && o.offset > 0) lseek(fd, o.offset, SEEK_SET);
        return take(i, fd, "open");
      }
      case Kind::kPipe:
        return o.path.starts_with("/") ? named_pipe(i) : pipe(i);
      case Kind::kEventFd: {
        // The count may be more than the 32 bits that eventfd() takes.
        int const fd = result(eventfd(0, EFD_CLOEXEC | (o.semaphore ? EFD_SEMAPHORE : 0)));
        if (fd >= 0 && o.count != 0 && ::write(fd, &o.count, sizeof o.count) != sizeof o.count)
          return fail_host("write");
        return take(i, fd, "eventfd");
      }
      case Kind::kTimerFd:
        return timer(i);
      case Kind::kSignalFd: {
        int const event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (event < 0) return fail_host("eventfd");
        files_[i] = std::make_shared<SignalFd>(process_.signals(), move_fd_high(event), o.mask, o.semaphore);
        for (int const number : o.epoll_numbers) (void)files_[i]->epoll_fd(number);
        return {};
      }
      case Kind::kEpoll:
        return take(i, result(epoll_create1(EPOLL_CLOEXEC)), "epoll_create1");
      case Kind::kSocket:
        return socket(i);
      case Kind::kInotify:
        break;
      case Kind::kOther:
        if (o.path.starts_with("/dev/"))
          return take(i, result(::open(o.path.c_str(), (o.flags & kOpenFlags) | O_NOCTTY | O_CLOEXEC)), "open");
        break;
    }
    return fail(Errc::kBadCheckpoint, "of a kind that cannot be made again");
  }

  // Files that the guest maps have been written by restore_layout().
  [[nodiscard]] bool mapped(FileId const& file) const {
    return std::ranges::any_of(process_.memory().file_maps(), [&](Vma const& vma) { return vma.holds == file; });
  }

  Result<void> named(size_t i) {
    OpenFileState const& o = state_.objects[i];
    int const fd = result(::open(o.path.c_str(), (o.flags & kOpenFlags) | O_NOCTTY | O_CLOEXEC));
    if (fd < 0) return fail_host("open", -fd);
    struct stat st {};
    if (fstat(fd, &st) != 0) return fail_host("fstat");
    int64_t const mtime = st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec;
    bool const writes = (o.flags & O_ACCMODE) != O_RDONLY;
    auto const size = static_cast<uint64_t>(st.st_size);
    if (size > o.size && writes && S_ISREG(st.st_mode)) {
      // What the guest has written behind the end since the checkpoint never happened.
      if (ftruncate(fd, static_cast<off_t>(o.size)) != 0) return fail_host("ftruncate");
      note_(fmt::format("{}: {} bytes written after the checkpoint are cut off", o.path, size - o.size));
    } else if (size < o.size) {
      note_(fmt::format("{}: {} bytes shorter than at the checkpoint", o.path, o.size - size));
    } else if (mtime != o.mtime_ns && writes && !mapped({st.st_dev, st.st_ino})) {
      note_(fmt::format("{}: changed since the checkpoint; what was overwritten is not undone", o.path));
    }
    if ((o.flags & O_PATH) == 0 && o.offset > 0 && lseek(fd, o.offset, SEEK_SET) < 0) return fail_host("lseek");
    for (FileLock const& lock : o.locks) {
      struct flock range {};
      range.l_type = static_cast<short>(lock.write ? F_WRLCK : F_RDLCK);
      range.l_whence = SEEK_SET;
      range.l_start = lock.start;
      range.l_len = lock.end < 0 ? 0 : lock.end - lock.start + 1;
      int const r = lock.posix ? fcntl(fd, F_SETLK, &range) : flock(fd, (lock.write ? LOCK_EX : LOCK_SH) | LOCK_NB);
      if (r != 0) {
        int const error = errno;
        ::close(fd);
        return fail_host("its lock is held by somebody else", error);
      }
    }
    return take(i, fd, "open");
  }

  Result<void> nameless(size_t i) {
    OpenFileState const& o = state_.objects[i];
    ScopedFd made(memfd_create(o.path.substr(0, 200).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (made.get() < 0) return fail_host("memfd_create");
    if (ftruncate(made.get(), static_cast<off_t>(o.content.size())) != 0) return fail_host("ftruncate");
    for (size_t done = 0; done < o.content.size();) {
      ssize_t const n = pwrite(made.get(), o.content.data() + done, o.content.size() - done, static_cast<off_t>(done));
      if (n <= 0) return fail_host("pwrite");
      done += static_cast<size_t>(n);
    }
    if (static_cast<Kind>(o.kind) == Kind::kSynthetic)
      fcntl(made.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);
    if (o.seals > 0) fcntl(made.get(), F_ADD_SEALS, o.seals);
    int fd = fcntl(made.get(), F_DUPFD_CLOEXEC, 3);
    // A file that was opened for reading alone is one again.
    if ((o.flags & O_ACCMODE) != O_RDWR) {
      ::close(fd);
      fd = ::open(fmt::format("/proc/self/fd/{}", made.get()).c_str(),
                  (o.flags & (O_ACCMODE | O_APPEND | O_NONBLOCK)) | O_CLOEXEC);
    }
    if (fd >= 0 && o.offset > 0) lseek(fd, o.offset, SEEK_SET);
    return take(i, result(fd), "a file without a name", o.path);
  }

  Result<void> named_pipe(size_t i) {
    OpenFileState const& o = state_.objects[i];
    // Both ends for a moment, so that opening one does not wait for somebody at the other.
    ScopedFd const both(::open(o.path.c_str(), O_RDWR | O_CLOEXEC));
    if (both.get() < 0) return fail_host("open");
    if (!o.content.empty() && ::write(both.get(), o.content.data(), o.content.size()) < 0) return fail_host("write");
    return take(i, result(::open(o.path.c_str(), (o.flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC)), "open");
  }

  Result<void> pipe(size_t i) {
    OpenFileState const& o = state_.objects[i];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return fail_host("pipe2");
    ScopedFd out(ends[0]), in(ends[1]);
    if (o.capacity > 0) fcntl(in.get(), F_SETPIPE_SZ, o.capacity);
    for (size_t j = 0; j < state_.objects.size(); ++j) {
      OpenFileState const& other = state_.objects[j];
      bool const same = static_cast<Kind>(other.kind) == Kind::kPipe && other.standard < 0 &&
                        other.pipe_id == o.pipe_id && !other.path.starts_with("/");
      if (!same) continue;
      if (!other.content.empty() &&
          ::write(in.get(), other.content.data(), other.content.size()) != static_cast<ssize_t>(other.content.size())) {
        return fail_host("filling a pipe");
      }
      int const fd = fcntl(other.write_end ? in.get() : out.get(), F_DUPFD_CLOEXEC, 3);
      // Each number that the guest has of its own open file description: a pipe opened twice through /proc is rare.
      if (auto r = take(j, result(fd), "pipe"); !r) return r;
    }
    if (!o.other_end_here)
      note_(fmt::format("descriptor {}: the other end of its pipe was somebody else's and is closed",
                        numbers_[i].empty() ? -1 : numbers_[i][0]));
    return {};
  }

  Result<void> timer(size_t i) {
    OpenFileState const& o = state_.objects[i];
    int const fd = result(timerfd_create(o.clock, TFD_CLOEXEC));
    if (fd < 0) return fail_host("timerfd_create", -fd);
    itimerspec next = o.left;
    bool const armed = next.it_value.tv_sec != 0 || next.it_value.tv_nsec != 0 || next.it_interval.tv_sec != 0 ||
                       next.it_interval.tv_nsec != 0;
    // One that has run out and was not read runs out again at once.
    if (o.count != 0) next.it_value = {0, 1};
    if ((armed || o.count != 0) && timerfd_settime(fd, 0, &next, nullptr) != 0) return fail_host("timerfd_settime");
    return take(i, fd, "timerfd");
  }

  Result<void> socket(size_t i) {
    OpenFileState const& o = state_.objects[i];
    std::string what;
    if (o.socket.role == SocketRole::kPair && o.socket.peer_object != i) {
      size_t const j = o.socket.peer_object;
      if (state_.objects[j].socket.role != SocketRole::kPair || files_[j]) {
        return fail(Errc::kBadCheckpoint, "the other end of a socket pair is not there");
      }
      int ends[2];
      if (int const r = restore_socket_pair(o, state_.objects[j], ends, what); r < 0) return fail_host(what, -r);
      if (auto r = take(i, ends[0], what); !r) return r;
      return take(j, ends[1], what);
    }
    int const fd = restore_socket(o, numbers_[i], hooks_, what);
    return take(i, fd, what);
  }

  Result<void> epoll(size_t i) {
    for (EpollEntry const& entry : state_.objects[i].epoll) {
      if (!files_[entry.object]) continue;
      int const fd = files_[entry.object]->epoll_fd(entry.number);
      epoll_event event{};
      event.events = entry.events;
      event.data.u64 = entry.data;
      if (fd < 0) return fail_host("an fd for an epoll set", -fd);
      if (epoll_ctl(files_[i]->host_fd(), EPOLL_CTL_ADD, fd, &event) != 0 && errno != EEXIST) {
        return fail_host(fmt::format("epoll_ctl for descriptor {}", entry.number));
      }
    }
    return {};
  }

  Process& process_;
  FdState const& state_;
  SocketHooks const& hooks_;
  std::function<void(std::string const&)> const& note_;
  std::vector<FileRef> files_;
  std::vector<std::vector<int>> numbers_;
};

}  // namespace

Result<void> restore_fds(Process& process, FdState const& state, SocketHooks const& hooks,
                         std::function<void(std::string const&)> const& note) {
  return Restore(process, state, hooks, note).make();
}

}  // namespace vmm
