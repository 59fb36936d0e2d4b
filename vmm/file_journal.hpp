// Whoever must know of each change to a file before the guest makes it, so that it can be taken back later by somebody
// else (docs/failover.md, "Files").
//
// A handler that changes a file says so with a FileChangeGuard around its host call; what it says is resolved already:
// host descriptors and names, nothing of the guest's. Called on the guest threads' host threads and by pollers, several
// at once.
#pragma once

#include <cstdint>

#include "vmm/process.hpp"
#include "vmm/thread.hpp"

namespace vmm {

struct FileChange {
  enum class Kind : uint8_t {
    kWrite,       // the bytes [offset, offset + size) of `fd`; offset kOwnPosition: where the file stands; mode
                  // O_APPEND: at its end
    kResize,      // `fd` gets `size` bytes
    kAllocate,    // fallocate(fd, mode, offset, size)
    kAttributes,  // mode, owner or times of `fd`
    kCreate,      // `name` in directory `fd` is made; only if nothing has that name
    kRemove,      // `name` in directory `fd` goes away
    kRename,      // `name` in `fd` becomes `to_name` in `to_fd`, replacing what is there
    kExchange,    // both swap their places
  };
  static constexpr uint64_t kOwnPosition = UINT64_MAX;

  Kind kind = Kind::kWrite;
  int fd = -1;               // the host's; AT_FDCWD for names
  OpenFile* file = nullptr;  // that `fd` is of, where there is one
  uint64_t offset = 0, size = 0;
  int mode = 0;
  char const* name = "";
  int to_fd = -1;
  char const* to_name = "";
};

class FileJournal {
 public:
  virtual ~FileJournal() = default;
  // The change is made next, by the calling thread, for `thread` (null: for none that is ever paused). Negative: it
  // must not be made, and this is the call's result: -errno, or kRestartSys, where a poller would have to wait.
  // Otherwise end() follows with what this answered, on the same thread.
  virtual int64_t begin(FileChange const& change, Thread* thread) = 0;
  // The change was made, or with a negative `result` was not.
  virtual void end(FileChange const& change, int64_t token, int64_t result) noexcept = 0;
};

// Around a host call that makes the change:
//
//   FileChangeGuard const guard(thread, {.kind = …});
//   return guard.made([&] { return host(…); });
class FileChangeGuard {
 public:
  // Of an open file that is no regular one (a pipe, a socket, a memfd) nobody is told.
  FileChangeGuard(Thread& thread, FileChange const& change)
      : journal_(change.file == nullptr || change.file->kind() == OpenFile::Kind::kFile ? thread.process().file_journal
                                                                                        : nullptr),
        change_(change) {
    if (journal_ != nullptr) token_ = journal_->begin(change_, &thread);
  }
  FileChangeGuard(FileChangeGuard const&) = delete;
  FileChangeGuard& operator=(FileChangeGuard const&) = delete;
  // Once.
  template <class Call>
  int64_t made(Call const& call) const {
    if (token_ < 0) return token_;
    int64_t const result = call();
    if (journal_ != nullptr) journal_->end(change_, token_, result);
    return result;
  }

 private:
  FileJournal* journal_;
  FileChange change_;
  int64_t token_ = 0;
};

}  // namespace vmm
