// The guest's file descriptors: virtual numbers that name typed open-file objects of the monitor.
// No guest number ever reaches the host: what a call gets is the object's host fd, so close_range,
// dup2, epoll or SCM_RIGHTS cannot touch the monitor's own descriptors.
//
// Thread-safe. A look-up returns a reference that keeps the host fd open until dropped, so that a
// close() by another thread never lets a host call hit a recycled number.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "vmm/error.hpp"

namespace vmm {

class StateAccess;
class Thread;

// An open file description as the guest sees it (shared by dup'ed numbers). Owns its host fd.
class OpenFile {
 public:
  enum class Kind : uint8_t {
    kFile,
    kDirectory,
    kPipe,
    kSocket,
    kEventFd,
    kTimerFd,
    kEpoll,
    kSignalFd,
    kInotify,
    kMemFd,
    kSynthetic,
    kOther
  };
  OpenFile(Kind kind, int host_fd, std::string path) : kind_(kind), host_fd_(host_fd), path_(std::move(path)) {}
  virtual ~OpenFile();
  OpenFile(OpenFile const&) = delete;
  OpenFile& operator=(OpenFile const&) = delete;
  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] int host_fd() const noexcept { return host_fd_; }
  // As readlink of /proc/self/fd/N tells it: the name given, else what the host says now.
  [[nodiscard]] std::string path() const;

  // The host fd that stands for the guest's number `fd` in epoll sets, where a file counts once for each of its
  // numbers: host_fd() for the first number asked for, a duplicate for each other. Closed with the file, as the last
  // number's close() ends the file's place in a set. -errno: there is no fd left.
  [[nodiscard]] int epoll_fd(int fd);
  // Whether one of its numbers was ever put into an epoll set.
  [[nodiscard]] bool in_epoll();
  // `thread` is about to ask for `events` (POLLIN… or EPOLLIN…, which have the same values): what to ask the host fd
  // for. Only a signalfd's answer depends on who asks, and its host fd has events that it never has.
  virtual uint32_t asked_for(Thread& /*thread*/, uint32_t events) { return events; }

  // Set once by the calls that give the file a property which later calls must know.
  std::atomic<bool> record_locks{false};    // fcntl F_SETLK was used: a close() of any number drops them
  std::atomic<bool> socket_timeout{false};  // SO_RCVTIMEO or SO_SNDTIMEO is set
  std::atomic<bool> accepted{false};        // a connection that accept() gave
  std::atomic<bool> read_only{false};       // on procfs: no write access by re-opening
  std::atomic<int> standard{-1};            // 0, 1, 2: the stream of that number that the monitor was started with

  // For the layer above: whether what is written here is to be undoable, and a host fd of its own for that, closed with
  // the file; -1: none.
  std::atomic<bool> undo{false};
  std::atomic<int> undo_fd{-1};
  // The same to read by, where host_fd() cannot (a FileJournal's).
  std::atomic<int> reader{-1};

 private:
  friend class StateAccess;  // vmm/checkpoint
  Kind kind_;
  int host_fd_;
  std::string path_;
  std::mutex epoll_mutex_;
  std::vector<std::pair<int, int>> epoll_fds_;  // guest's number, host fd
};

using FileRef = std::shared_ptr<OpenFile>;

class FdTable {
 public:
  FdTable();  // the guest's limit is the one that the monitor was started with
  // Takes over the monitor's standard streams 0, 1, 2 (as duplicates; a closed one stays closed for
  // the guest).
  void adopt_standard_streams();
  [[nodiscard]] FileRef get(int fd) const;  // null: EBADF
  // The lowest free number >= minimum; -EMFILE past the guest's RLIMIT_NOFILE.
  int install(FileRef file, bool cloexec, int minimum = 0);
  int install_at(int fd, FileRef file, bool cloexec);  // replaces what is there; fd or -errno
  bool close(int fd);                                  // false: EBADF
  // Closes every number in [first, last]; with `cloexec_only` marks them close-on-exec instead.
  void close_range(unsigned first, unsigned last, bool cloexec_only);
  [[nodiscard]] bool full() const;  // install() would answer -EMFILE
  [[nodiscard]] bool cloexec(int fd) const;
  void set_cloexec(int fd, bool on);
  [[nodiscard]] std::vector<int> open_numbers() const;
  void set_limit(uint64_t limit);
  [[nodiscard]] uint64_t limit() const;

 private:
  struct Entry {
    FileRef file;
    bool cloexec = false;
  };
  mutable std::mutex mutex_;
  [[nodiscard]] int lowest_free(int minimum) const;
  static void release(Entry const& entry);

  std::vector<Entry> entries_;
  uint64_t limit_ = 0;
};

// Wraps a host fd just opened and moves it to a high number, so that a guest's number that slipped
// through some call would name nothing. The short form finds out its kind with fstat.
FileRef adopt_host_fd(int host_fd, std::string path = {});
FileRef adopt_host_fd(int host_fd, OpenFile::Kind kind, std::string path = {});
// The same number policy for an fd that stays the caller's: the new number, or the old one where no
// high one is free. Close-on-exec is set.
[[nodiscard]] int move_fd_high(int host_fd);
// The monitor's own /proc/self/fd, open for the life of the process: the name of fd N in it is "N".
[[nodiscard]] int own_fd_directory();

}  // namespace vmm
