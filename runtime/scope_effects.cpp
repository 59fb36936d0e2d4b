#include "runtime/scope_effects.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <ctime>
#include <utility>

#include "vmm/address_space.hpp"
#include "vmm/file_journal.hpp"

namespace vmsrs::runtime {
namespace {

// What a call does to the world, and where its arguments say to what.
enum class Way : uint8_t {
  kNone,
  kWrite,      // (fd, …): at the file's own position
  kWriteAt,    // (fd, …, offset in argument 3)
  kTruncate,   // (fd, size)
  kOpen,       // may create or cut a file; the result is an fd
  kOpens,      // the result is an fd
  kOpensTwo,   // two fds in guest memory
  kDuplicate,  // (old, new): replaces what `new` was
  kClose,
  kRead,    // (fd, …): uses up what only one reader gets
  kOnFd,    // anything else on the fd in argument 0
  kOnPath,  // on the path in argument `at`
  kPlain,   // no object worth naming
};
struct Row {
  Way way = Way::kNone;
  uint8_t at = 0;
  char const* name = "";
};

constexpr auto kRows = [] {
  std::array<Row, 512> rows{};
  rows[SYS_write] = {Way::kWrite, 0, "write"};
  rows[SYS_writev] = {Way::kWrite, 0, "writev"};
  rows[SYS_pwrite64] = {Way::kWriteAt, 0, "pwrite64"};
  rows[SYS_pwritev] = {Way::kWriteAt, 0, "pwritev"};
  rows[SYS_pwritev2] = {Way::kWriteAt, 0, "pwritev2"};
  rows[SYS_read] = {Way::kRead, 0, "read"};
  rows[SYS_readv] = {Way::kRead, 0, "readv"};
  rows[SYS_ftruncate] = {Way::kTruncate, 0, "ftruncate"};
  rows[SYS_open] = {Way::kOpen, 0, "open"};
  rows[SYS_openat] = {Way::kOpen, 1, "openat"};
  rows[SYS_creat] = {Way::kOpen, 0, "creat"};
  for (int const nr :
       {SYS_socket, SYS_accept, SYS_accept4, SYS_epoll_create, SYS_epoll_create1, SYS_eventfd, SYS_eventfd2,
        SYS_timerfd_create, SYS_memfd_create, SYS_dup, SYS_signalfd4, SYS_inotify_init, SYS_inotify_init1})
    rows[static_cast<size_t>(nr)] = {Way::kOpens, 0, ""};
  for (int const nr : {SYS_pipe, SYS_pipe2}) rows[static_cast<size_t>(nr)] = {Way::kOpensTwo, 0, ""};
  rows[SYS_socketpair] = {Way::kOpensTwo, 3, ""};
  rows[SYS_dup2] = {Way::kDuplicate, 0, "dup2"};
  rows[SYS_dup3] = {Way::kDuplicate, 0, "dup3"};
  rows[SYS_close] = {Way::kClose, 0, "close"};
  rows[SYS_close_range] = {Way::kPlain, 0, "close_range"};
  rows[SYS_fallocate] = {Way::kOnFd, 0, "fallocate"};
  rows[SYS_fchmod] = {Way::kOnFd, 0, "fchmod"};
  rows[SYS_fchown] = {Way::kOnFd, 0, "fchown"};
  rows[SYS_sendfile] = {Way::kOnFd, 0, "sendfile"};
  rows[SYS_shutdown] = {Way::kOnFd, 0, "shutdown"};
  rows[SYS_bind] = {Way::kOnFd, 0, "bind"};
  rows[SYS_connect] = {Way::kOnFd, 0, "connect"};
  rows[SYS_flock] = {Way::kOnFd, 0, "flock"};
  rows[SYS_fsetxattr] = {Way::kOnFd, 0, "fsetxattr"};
  rows[SYS_unlink] = {Way::kOnPath, 0, "unlink"};
  rows[SYS_unlinkat] = {Way::kOnPath, 1, "unlinkat"};
  rows[SYS_rename] = {Way::kOnPath, 0, "rename"};
  rows[SYS_renameat] = {Way::kOnPath, 1, "renameat"};
  rows[SYS_renameat2] = {Way::kOnPath, 1, "renameat2"};
  rows[SYS_mkdir] = {Way::kOnPath, 0, "mkdir"};
  rows[SYS_mkdirat] = {Way::kOnPath, 1, "mkdirat"};
  rows[SYS_rmdir] = {Way::kOnPath, 0, "rmdir"};
  rows[SYS_link] = {Way::kOnPath, 1, "link"};
  rows[SYS_linkat] = {Way::kOnPath, 3, "linkat"};
  rows[SYS_symlink] = {Way::kOnPath, 1, "symlink"};
  rows[SYS_symlinkat] = {Way::kOnPath, 2, "symlinkat"};
  rows[SYS_mknod] = {Way::kOnPath, 0, "mknod"};
  rows[SYS_mknodat] = {Way::kOnPath, 1, "mknodat"};
  rows[SYS_truncate] = {Way::kOnPath, 0, "truncate"};
  rows[SYS_chmod] = {Way::kOnPath, 0, "chmod"};
  rows[SYS_fchmodat] = {Way::kOnPath, 1, "fchmodat"};
  rows[SYS_chown] = {Way::kOnPath, 0, "chown"};
  rows[SYS_fchownat] = {Way::kOnPath, 1, "fchownat"};
  rows[SYS_chdir] = {Way::kOnPath, 0, "chdir"};
  rows[SYS_copy_file_range] = {Way::kOnFd, 2, "copy_file_range"};
  rows[SYS_splice] = {Way::kOnFd, 2, "splice"};
  return rows;
}();

Row row_of(vmm::SyscallArgs const& args) {
  if (args.nr == SYS_fcntl) {
    uint64_t const command = args.a[1];
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) return {Way::kOpens, 0, ""};
    if (command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW)
      return {Way::kOnFd, 0, "fcntl (a lock)"};
    return {};
  }
  return args.nr < kRows.size() ? kRows[args.nr] : Row{};
}

uint64_t realtime_ns() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

bool is_file(vmm::OpenFile const& file) {
  return file.kind() == vmm::OpenFile::Kind::kFile || file.kind() == vmm::OpenFile::Kind::kMemFd;
}

std::string path_at(vmm::Thread& thread, uint64_t address) {
  std::string path;
  return thread.memory().read_string(vmm::GuestAddr(address), path, PATH_MAX) == 0 ? path : std::string();
}

// The bytes of [offset, offset + size) that the file has.
bool read_file(int fd, uint64_t offset, uint64_t size, std::vector<std::byte>& to) {
  to.resize(size);
  uint64_t done = 0;
  while (done < size) {
    ssize_t const n = pread(fd, to.data() + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    if (n == 0) break;
    done += static_cast<uint64_t>(n);
  }
  to.resize(done);
  return true;
}

bool write_file(int fd, uint64_t offset, std::vector<std::byte> const& bytes) {
  uint64_t done = 0;
  while (done < bytes.size()) {
    ssize_t const n = pwrite(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<uint64_t>(n);
  }
  return true;
}

uint64_t bytes_of(vmm::Thread& thread, vmm::SyscallArgs const& args) {
  if (args.nr == SYS_write || args.nr == SYS_pwrite64) return args.a[2];
  uint64_t total = 0;
  for (uint64_t i = 0; i < std::min<uint64_t>(args.a[2], IOV_MAX); ++i) {
    uint64_t part[2];
    if (!thread.memory().read(vmm::GuestAddr(args.a[1] + i * sizeof part), part)) break;
    total += std::min<uint64_t>(part[1], INT_MAX);
  }
  return total;
}

// Whether the call that began at that time made the file.
bool is_new(int fd, uint64_t since_ns) {
  struct statx s {};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &s) != 0 || (s.stx_mask & STATX_BTIME) == 0) return false;
  return static_cast<uint64_t>(s.stx_btime.tv_sec) * 1'000'000'000 + s.stx_btime.tv_nsec >= since_ns;
}

}  // namespace

int64_t set_file_mode(vmm::Thread& thread, int fd, uint64_t mode) {
  vmm::FileRef const file = thread.fds().get(fd);
  if (!file) return -EBADF;
  if (mode > SRS_FILE_UNDO || !is_file(*file)) return -EINVAL;
  if (mode == SRS_FILE_PLAIN) {
    file->undo = false;
    return 0;
  }
  if (file->undo_fd.load() < 0) {
    // Its own way to the file: the guest's may be write-only, or append.
    int const own =
        vmm::move_fd_high(openat(vmm::own_fd_directory(), std::to_string(file->host_fd()).c_str(), O_RDWR | O_CLOEXEC));
    if (own < 0) return -errno;
    int none = -1;
    if (!file->undo_fd.compare_exchange_strong(none, own)) close(own);
  }
  file->undo = true;
  return 0;
}

bool ScopeEffects::opened_here(int fd) const {
  return std::ranges::any_of(opened_, [fd](Opened const& o) { return o.fd == fd; });
}

void ScopeEffects::forget() {
  opened_.clear();
  done_.clear();
  closed_.clear();
  bytes_ = more_ = 0;
}

void ScopeEffects::let_closed_go() {
  for (Closed& closed : closed_) {
    Done done;
    done.effect = {"close", closed.fd, closed.file->path(), 0, 0, false};
    done.number = closed.number;
    add(std::move(done));
  }
  closed_.clear();
}

void ScopeEffects::begin_write(vmm::Thread& thread, vmm::SyscallArgs const& args) {
  Row const row = row_of(args);
  writing_ = Done{};
  is_writing_ = false;
  vmm::FileRef const file = thread.fds().get(static_cast<int>(args.a[0]));
  if (!file || !is_file(*file)) return;
  is_writing_ = true;
  Done& w = writing_;
  w.file = file;
  struct stat st {};
  if (fstat(file->host_fd(), &st) != 0) {
    w.why_not = "its size is not known";
    return;
  }
  w.old_size = static_cast<uint64_t>(st.st_size);
  uint64_t size = 0;
  if (row.way == Way::kTruncate) {
    w.effect.offset = std::min(args.a[1], w.old_size);
    size = w.old_size - w.effect.offset;
  } else {
    int const flags = fcntl(file->host_fd(), F_GETFL);
    bool const current = row.way == Way::kWrite || (args.nr == SYS_pwritev2 && args.a[3] == UINT64_MAX);
    if (current) w.old_position = lseek(file->host_fd(), 0, SEEK_CUR);
    w.effect.offset = current ? static_cast<uint64_t>(std::max<int64_t>(w.old_position, 0)) : args.a[3];
    if ((flags & O_APPEND) != 0) w.effect.offset = w.old_size;
    size = bytes_of(thread, args);
  }
  int const own = file->undo_fd.load();
  if (!file->undo.load() || own < 0) {
    w.why_not = "no srs_file";
    return;
  }
  uint64_t const had = w.effect.offset < w.old_size ? std::min(size, w.old_size - w.effect.offset) : 0;
  if (bytes_ + had + size > kMaxFileBytes) {
    w.why_not = "too much to keep";
  } else if (!read_file(own, w.effect.offset, had, w.old_bytes) || w.old_bytes.size() != had) {
    w.why_not = "could not be read";
  }
}

bool ScopeEffects::before(vmm::Thread& thread, vmm::SyscallArgs const& args, uint64_t number) {
  Row const row = row_of(args);
  switch (row.way) {
    case Way::kWrite:
    case Way::kWriteAt:
    case Way::kTruncate:
      begin_write(thread, args);
      return false;
    case Way::kOpen:
      began_ns_ = realtime_ns();
      return false;
    case Way::kClose:
    case Way::kDuplicate: {
      int const fd = static_cast<int>(args.a[row.way == Way::kClose ? 0 : 1]);
      vmm::FileRef file = thread.fds().get(fd);
      if (!file || opened_here(fd) || (row.way == Way::kDuplicate && args.a[0] == args.a[1])) return false;
      // A file in an epoll set would go on having events there.
      if (file->in_epoll()) return false;
      closed_.push_back({fd, number, std::move(file), thread.fds().cloexec(fd)});
      return true;
    }
    default:
      return false;
  }
}

void ScopeEffects::add(Done done) {
  if (done.file == nullptr && !done_.empty()) {  // a run of writes is told as one
    Done& last = done_.back();
    bool const follows = last.effect.offset + last.effect.size == done.effect.offset || done.effect.offset == 0;
    if (last.file == nullptr && last.number == done.number && last.effect.size != 0 && follows &&
        last.effect.call == done.effect.call && last.effect.fd == done.effect.fd) {
      last.effect.size += done.effect.size;
      return;
    }
  }
  if (done_.size() == kMaxEffects && done.file == nullptr) {
    more_ += 1;
    return;
  }
  bytes_ += done.old_bytes.size() + done.new_bytes.size();
  done_.push_back(std::move(done));
}

void ScopeEffects::after(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result, uint64_t number) {
  Row const row = row_of(args);
  if (row.way == Way::kNone) return;
  bool const writes = row.way == Way::kWrite || row.way == Way::kWriteAt || row.way == Way::kTruncate;
  Done w = std::exchange(writing_, Done{});
  bool const to_file = writes && std::exchange(is_writing_, false);
  int const first = static_cast<int>(args.a[0]);
  if (result < 0) {
    if ((row.way == Way::kClose || row.way == Way::kDuplicate) && !closed_.empty()) {
      int const fd = static_cast<int>(args.a[row.way == Way::kClose ? 0 : 1]);
      if (closed_.back().fd == fd && thread.fds().get(fd) == closed_.back().file) closed_.pop_back();
    }
    return;
  }
  switch (row.way) {
    case Way::kOpens:
    case Way::kOpen:
      opened_.push_back({static_cast<int>(result), number});
      if (row.way == Way::kOpen) {
        uint64_t const flags = args.nr == SYS_open     ? args.a[1]
                               : args.nr == SYS_openat ? args.a[2]
                                                       : uint64_t{O_CREAT | O_TRUNC};
        vmm::FileRef const file = thread.fds().get(static_cast<int>(result));
        bool const made = file && (flags & O_CREAT) != 0 && is_new(file->host_fd(), began_ns_);
        if (!made && (flags & O_TRUNC) == 0) return;
        Done done;
        done.number = number;
        done.effect = {made ? "open (created)" : "open (cut to nothing)",
                       static_cast<int>(result),
                       path_at(thread, args.a[row.at]),
                       0,
                       0,
                       false};
        add(std::move(done));
      }
      return;
    case Way::kOpensTwo: {
      int32_t fds[2];
      if (!thread.memory().read(vmm::GuestAddr(args.a[row.at]), fds, sizeof fds)) return;
      for (int32_t const fd : fds) opened_.push_back({fd, number});
      return;
    }
    case Way::kDuplicate:
      if (args.a[0] != args.a[1]) opened_.push_back({static_cast<int>(result), number});
      return;
    case Way::kClose:
      std::erase_if(opened_, [first](Opened const& o) { return o.fd == first; });
      return;
    case Way::kRead: {
      vmm::FileRef file = thread.fds().get(first);
      if (!file || result == 0 || opened_here(first)) return;
      using Kind = vmm::OpenFile::Kind;
      if (file->kind() != Kind::kEventFd && file->kind() != Kind::kPipe && file->kind() != Kind::kTimerFd &&
          file->kind() != Kind::kSignalFd)
        return;
      Done done;
      done.number = number;
      done.effect = {row.name, first, file->path(), 0, static_cast<uint64_t>(result), false};
      if (file->kind() == Kind::kEventFd && args.nr == SYS_read &&
          thread.memory().read(vmm::GuestAddr(args.a[1]), done.event)) {
        done.file = std::move(file);
      }
      add(std::move(done));
      return;
    }
    default:
      break;
  }
  Done done = to_file ? std::move(w) : Done{};
  done.number = number;
  done.effect.call = row.name;
  if (row.way == Way::kOnPath) {
    done.effect.path = path_at(thread, args.a[row.at]);
    add(std::move(done));
    return;
  }
  if (row.way != Way::kPlain) {
    done.effect.fd = static_cast<int>(args.a[row.at]);
    vmm::FileRef const file = thread.fds().get(done.effect.fd);
    // What leaves by a connection is output (held_output.hpp); what was opened here is closed again.
    if (!file || (writes && file->kind() == vmm::OpenFile::Kind::kSocket)) return;
    if (!is_file(*file) && opened_here(done.effect.fd)) return;
    done.effect.path = file->path();
  }
  if (writes && row.way != Way::kTruncate) done.effect.size = static_cast<uint64_t>(result);
  if (row.way == Way::kTruncate) done.effect.size = done.old_bytes.size();
  if (!to_file || !done.why_not.empty()) {
    done.file = nullptr;
    done.old_bytes.clear();
    add(std::move(done));
    return;
  }
  struct stat st {};
  done.new_size = fstat(done.file->host_fd(), &st) == 0 ? static_cast<uint64_t>(st.st_size) : done.old_size;
  if (done.old_position >= 0) done.new_position = lseek(done.file->host_fd(), 0, SEEK_CUR);
  if (row.way != Way::kTruncate) {
    done.old_bytes.resize(std::min<uint64_t>(done.old_bytes.size(), done.effect.size));
    (void)read_file(done.file->undo_fd.load(), done.effect.offset, done.effect.size, done.new_bytes);
  }
  add(std::move(done));
}

// An event that the scope had read: somebody else may wait for it.
bool ScopeEffects::give_back(Done const& d) {
  return write(d.file->host_fd(), &d.event, sizeof d.event) == sizeof d.event;
}

bool ScopeEffects::put_back(vmm::Thread& thread, Done& d) {
  int const own = d.file->undo_fd.load();
  struct stat st {};
  std::vector<std::byte> now;
  if (fstat(own, &st) != 0 || !read_file(own, d.effect.offset, d.new_bytes.size(), now) || now != d.new_bytes)
    return false;
  auto const size = static_cast<uint64_t>(st.st_size);
  if (d.new_size != d.old_size && size != d.new_size) return false;  // others have moved its end since
  // A guest that is protected has this undone in its turn. Both are one change of all that may differ.
  vmm::FileChangeGuard const change(
      thread, {.kind = vmm::FileChange::Kind::kWrite,
               .fd = own,
               .file = nullptr,
               .offset = d.effect.offset,
               .size = std::max(d.old_size, size) - std::min(d.effect.offset, std::max(d.old_size, size))});
  int64_t const made = change.made([&]() -> int64_t {
    if (!write_file(own, d.effect.offset, d.old_bytes)) return -EIO;
    if (d.new_size > d.old_size && ftruncate(own, static_cast<off_t>(d.old_size)) != 0) return -EIO;
    if (d.new_size < d.old_size && fstat(own, &st) == 0 && static_cast<uint64_t>(st.st_size) != d.old_size &&
        ftruncate(own, static_cast<off_t>(d.old_size)) != 0)
      return -EIO;
    return 0;
  });
  if (made != 0) return false;
  int const theirs = d.file->host_fd();
  if (d.new_position >= 0 && lseek(theirs, 0, SEEK_CUR) == d.new_position) lseek(theirs, d.old_position, SEEK_SET);
  return true;
}

void ScopeEffects::undo(vmm::Thread& thread, uint64_t from, FaultReport& report) {
  is_writing_ = false;
  for (size_t i = done_.size(); i-- > 0;) {
    Done& d = done_[i];
    if (d.number < from) continue;
    if (d.file != nullptr) d.effect.undone = d.event != 0 ? give_back(d) : put_back(thread, d);
    (!d.effect.undone ? report.effects_left : d.event != 0 ? report.events_returned : report.files_undone) += 1;
    report.effects.push_back(d.effect);
  }
  report.effects_left += std::exchange(more_, 0);
  std::erase_if(done_, [from](Done const& d) { return d.number >= from; });
  std::erase_if(opened_, [&](Opened const& opened) {
    if (opened.number < from) return false;
    if (thread.fds().close(opened.fd)) report.fds_closed += 1;
    return true;
  });
  for (size_t i = closed_.size(); i-- > 0;) {
    Closed& c = closed_[i];
    if (c.number < from) continue;
    if (thread.fds().get(c.fd) == nullptr && thread.fds().install_at(c.fd, c.file, c.cloexec) >= 0) {
      report.fds_reopened += 1;
    } else {  // another thread has the number by now
      report.effects.push_back({"close", c.fd, c.file->path(), 0, 0, false});
      report.effects_left += 1;
    }
  }
  std::erase_if(closed_, [from](Closed const& c) { return c.number >= from; });
  bytes_ = 0;
  for (Done const& d : done_) bytes_ += d.old_bytes.size() + d.new_bytes.size();
}

bool ScopeEffects::can_be_saved() const {
  return !is_writing_ && closed_.empty() &&
         std::none_of(done_.begin(), done_.end(), [](Done const& d) { return d.file != nullptr || d.event != 0; });
}

ScopeEffects::Saved ScopeEffects::save() const {
  Saved saved{.opened = opened_, .told = {}, .more = more_};
  for (Done const& d : done_) saved.told.push_back({d.effect, d.number, d.why_not});
  return saved;
}

void ScopeEffects::load(Saved const& saved) {
  opened_ = saved.opened;
  more_ = saved.more;
  for (Saved::Told const& told : saved.told) {
    Done done;
    done.effect = told.effect;
    done.number = told.number;
    done.why_not = told.why_not;
    done_.push_back(std::move(done));
  }
}

}  // namespace vmsrs::runtime
