#include "runtime/files/file_journal.hpp"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace vmsrs::runtime::files {
namespace {

using Kind = vmm::FileChange::Kind;
constexpr uint64_t kChunk = 1 << 20;  // of one record

// What begin() holds until end(): the lowest bits of its token; the others name the record that a failed change voids.
enum : int64_t { kNothing = 0, kShared = 1, kPosition = 2, kAlone = 3, kHeldBits = 2 };

int64_t ns_of(timespec const& time) {
  return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

FileStatus status_of(struct stat const& st) {
  FileStatus status;
  status.size = static_cast<uint64_t>(st.st_size);
  status.mode = st.st_mode;
  status.user = st.st_uid;
  status.group = st.st_gid;
  status.accessed_ns = ns_of(st.st_atim);
  status.modified_ns = ns_of(st.st_mtim);
  return status;
}

// What the host calls this open file now; empty: it has no name.
std::string path_of(int fd) {
  char text[PATH_MAX];
  ssize_t const n = readlinkat(vmm::own_fd_directory(), std::to_string(fd).c_str(), text, sizeof text);
  return n > 0 && n < static_cast<ssize_t>(sizeof text) && text[0] == '/' ? std::string(text, static_cast<size_t>(n))
                                                                          : std::string();
}

std::string path_at(int directory, char const* name) {
  std::string_view last(name);
  while (last.size() > 1 && last.ends_with('/')) last.remove_suffix(1);
  if (last.starts_with('/')) return std::string(last);
  std::string path;
  if (directory == AT_FDCWD) {
    char text[PATH_MAX];
    if (getcwd(text, sizeof text) != nullptr) path = text;
  } else {
    path = path_of(directory);
  }
  return path.empty() ? path : path + "/" + std::string(last);
}

bool same_file(struct stat const& a, struct stat const& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// Whoever holds one of these locks may be parked with it.
template <class TryLock, class Lock>
bool lock_for(vmm::Thread* thread, TryLock const& try_lock, Lock const& lock) {
  if (thread != nullptr) return thread->lock_in(try_lock, lock);
  lock();
  return true;
}

}  // namespace

struct FileJournal::File {
  struct stat st {};
  std::string path;
  int reader = -1;  // negative: not needed yet
  vmm::ScopedFd own;

  // A descriptor to read by, whatever the guest's own is for; -errno.
  int64_t open_reader(vmm::FileChange const& change) {
    if (change.file != nullptr && change.file->reader.load() >= 0) {
      reader = change.file->reader.load();
      return 0;
    }
    int const flags = fcntl(change.fd, F_GETFL);
    if (flags >= 0 && (flags & (O_PATH | O_DIRECT)) == 0 && (flags & O_ACCMODE) != O_WRONLY) {
      reader = change.fd;
      return 0;
    }
    int const made =
        vmm::move_fd_high(openat(vmm::own_fd_directory(), std::to_string(change.fd).c_str(), O_RDONLY | O_CLOEXEC));
    if (made < 0) return -errno;
    reader = made;
    int none = -1;
    if (change.file == nullptr || !change.file->reader.compare_exchange_strong(none, made)) own = vmm::ScopedFd(made);
    return 0;
  }
};

void FileJournal::boundary(uint64_t epoch) {
  std::lock_guard const guard(segment_mutex_);
  current_ = {term_, current_.sequence + 1, epoch};
  segment_ = vmm::ScopedFd();
  in_segment_ = 0;
  active_ = true;
}

void FileJournal::not_taken() {
  if (base_ == 0) return stop();
  std::lock_guard const guard(segment_mutex_);
  Segment const was = current_;
  current_.epoch = base_;
  if (!segment_) return;
  (void)rename(at(was).c_str(), at(current_).c_str());
  kept_.back() = current_;
}

void FileJournal::safe(uint64_t epoch) {
  std::lock_guard const guard(segment_mutex_);
  base_ = epoch;
  std::erase_if(kept_,
                [&](Segment const& segment) { return segment.epoch < epoch && unlink(at(segment).c_str()) == 0; });
}

void FileJournal::stop() {
  active_ = false;
  std::lock_guard const guard(segment_mutex_);
  base_ = 0;
  segment_ = vmm::ScopedFd();
  for (Segment const& segment : kept_) (void)unlink(at(segment).c_str());
  kept_.clear();
}

int64_t FileJournal::keep(UndoRecord const& record, uint64_t* index) {
  std::lock_guard const guard(segment_mutex_);
  if (!active_) return 0;
  if (!segment_) {
    segment_ = vmm::ScopedFd(
        vmm::move_fd_high(open(at(current_).c_str(), O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600)));
    if (!segment_) return -errno;
    kept_.push_back(current_);
  }
  if (int const error = append(segment_.get(), record); error != 0) return -error;
  if (index != nullptr) *index = in_segment_;
  ++in_segment_;
  records_.fetch_add(1, std::memory_order_relaxed);
  bytes_.fetch_add(record.data.size(), std::memory_order_relaxed);
  return 0;
}

// What [offset, offset + size) holds, and how long the file is.
int64_t FileJournal::keep_bytes(File const& file, uint64_t offset, uint64_t size) {
  UndoRecord record;
  record.kind = UndoRecord::Kind::kBytes;
  record.status = status_of(file.st);
  record.path = file.path;
  uint64_t const length = record.status.size;
  uint64_t const had = offset < length ? std::min(size, length - offset) : 0;
  record.offset = offset;
  if (had == 0) return keep(record);
  thread_local std::vector<std::byte> bytes;
  bytes.resize(std::min(had, kChunk));
  for (uint64_t done = 0; done < had;) {
    ssize_t const n = pread(file.reader, bytes.data(), std::min(had - done, kChunk), static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -errno;
    if (n == 0) break;  // somebody else has cut it
    record.offset = offset + done;
    record.data = {bytes.data(), static_cast<size_t>(n)};
    if (int64_t const error = keep(record); error != 0) return error;
    done += static_cast<uint64_t>(n);
  }
  return 0;
}

int64_t FileJournal::change_bytes(vmm::FileChange const& change, vmm::Thread* thread, int64_t& held) {
  File file;
  if (change.file != nullptr && change.file->standard.load() >= 0) return 0;
  if (fstat(change.fd, &file.st) != 0) return 0;  // the call itself says what is wrong
  bool const attributes = change.kind == Kind::kAttributes;
  if (file.st.st_nlink == 0 || (!attributes && !S_ISREG(file.st.st_mode))) return 0;
  auto const position_lock = file.st.st_ino % positions_.size();
  uint64_t offset = change.offset, size = change.size;
  auto length = static_cast<uint64_t>(file.st.st_size);
  if (change.kind == Kind::kWrite) {
    bool const appends = ((fcntl(change.fd, F_GETFL) | change.mode) & O_APPEND) != 0;
    if (appends || offset == vmm::FileChange::kOwnPosition) {
      // Nobody moves it between this look and the call.
      std::mutex& position = positions_[position_lock];
      if (!lock_for(
              thread, [&] { return position.try_lock(); }, [&] { position.lock(); }))
        return vmm::kRestartSys;
      held = kPosition | static_cast<int64_t>(position_lock << kHeldBits);
      if (fstat(change.fd, &file.st) != 0) return 0;
      length = static_cast<uint64_t>(file.st.st_size);
      off_t const at = appends ? file.st.st_size : lseek(change.fd, 0, SEEK_CUR);
      if (at < 0) return 0;
      offset = static_cast<uint64_t>(at);
    }
  } else if (change.kind == Kind::kResize) {
    offset = std::min(change.size, length);
    size = length - offset;
  } else if (change.kind == Kind::kAllocate) {
    if ((change.mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) != 0) return -EOPNOTSUPP;
    if ((change.mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0) size = 0;  // nothing that there is changes
  }
  file.path = path_of(change.fd);
  if (file.path.empty()) return 0;
  if (attributes) {
    UndoRecord record;
    record.kind = UndoRecord::Kind::kStatus;
    record.status = status_of(file.st);
    record.path = file.path;
    return keep(record);
  }
  if (offset < length && size != 0) {
    if (int64_t const error = file.open_reader(change); error != 0) return error;
  }
  return keep_bytes(file, offset, size);
}

// All of what is about to lose its name.
int64_t FileJournal::keep_removed(int directory, char const* name, std::string const& path, struct stat const& st,
                                  uint64_t* index) {
  UndoRecord record;
  record.kind = UndoRecord::Kind::kRemoved;
  record.status = status_of(st);
  record.path = path;
  char text[PATH_MAX];
  if (S_ISLNK(st.st_mode)) {
    ssize_t const n = readlinkat(directory, path.c_str(), text, sizeof text);
    if (n < 0) return -errno;
    record.data = std::as_bytes(std::span(text, static_cast<size_t>(n)));
  }
  if (S_ISREG(st.st_mode) && st.st_size != 0) {
    File file;
    file.own = vmm::ScopedFd(openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file.own) return -errno;
    file.reader = file.own.get();
    file.st = st;
    file.path = path;
    // Backwards: it is made first, and its bytes come then.
    if (int64_t const error = keep_bytes(file, 0, record.status.size); error != 0) return error;
  }
  return keep(record, index);
}

int64_t FileJournal::change_names(vmm::FileChange const& change, uint64_t& index) {
  struct stat st {};
  std::string const path = path_at(change.fd, change.name);
  bool const there = fstatat(change.fd, path.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0;
  if (path.empty()) return 0;
  if (change.kind == Kind::kCreate) {
    if (there) return 0;  // the call will fail
    UndoRecord record;
    record.kind = UndoRecord::Kind::kCreated;
    record.path = path;
    return keep(record, &index);
  }
  if (!there) return 0;
  if (change.kind == Kind::kRemove) return keep_removed(change.fd, path.c_str(), path, st, &index);
  std::string const to = path_at(change.to_fd, change.to_name);
  struct stat target {};
  if (to.empty()) return 0;
  if (change.kind == Kind::kRename && fstatat(change.to_fd, to.c_str(), &target, AT_SYMLINK_NOFOLLOW) == 0) {
    if (same_file(st, target)) return 0;  // two names of one file: nothing happens
    if (int64_t const error = keep_removed(change.to_fd, to.c_str(), to, target, nullptr); error != 0) return error;
  }
  UndoRecord record;
  record.kind = change.kind == Kind::kRename ? UndoRecord::Kind::kRenamed : UndoRecord::Kind::kExchanged;
  record.path = path;
  record.other = to;
  return keep(record, &index);
}

int64_t FileJournal::begin(vmm::FileChange const& change, vmm::Thread* thread) {
  if (!active_) return kNothing;
  int64_t error = 0, held = kShared;
  if (change.kind < Kind::kCreate) {
    if (!lock_for(
            thread, [&] { return names_.try_lock_shared(); }, [&] { names_.lock_shared(); }))
      return vmm::kRestartSys;
    error = change_bytes(change, thread, held);
  } else {
    if (!lock_for(
            thread, [&] { return names_.try_lock(); }, [&] { names_.lock(); }))
      return vmm::kRestartSys;
    uint64_t index = UINT64_MAX;
    error = change_names(change, index);
    held = kAlone | static_cast<int64_t>((index + 1) << kHeldBits);
  }
  if (error == 0) return held;
  end(change, held, 0);
  return error;
}

void FileJournal::mark(vmm::FileChange const& change) const noexcept {
  struct stat st {};
  if (change.kind >= Kind::kAttributes || fstat(change.fd, &st) != 0) return;
  bool const somewhere = change.kind == Kind::kResize || change.offset == vmm::FileChange::kOwnPosition;
  memory_->mark_file_written({st.st_dev, st.st_ino}, somewhere ? 0 : change.offset,
                             somewhere ? UINT64_MAX : change.size);
}

void FileJournal::end(vmm::FileChange const& change, int64_t token, int64_t result) noexcept {
  if (memory_ != nullptr && memory_->has_file_maps()) mark(change);
  int64_t const held = token & ((1 << kHeldBits) - 1);
  auto const rest = static_cast<uint64_t>(token) >> kHeldBits;
  if (held == kNothing) return;
  if (held == kAlone) {
    if (result < 0 && rest != 0) {
      UndoRecord record;
      record.kind = UndoRecord::Kind::kNotMade;
      record.offset = rest - 1;
      (void)keep(record);
    }
    names_.unlock();
    return;
  }
  if (held == kPosition) positions_[rest].unlock();
  names_.unlock_shared();
}

}  // namespace vmsrs::runtime::files
