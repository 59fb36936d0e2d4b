// Keeps what it takes to undo each change to a file that the guest makes, from the last safe epoch on.
//
// What is changed is kept first, in a segment of the folder (undo_log.hpp), so that it outlives this process however it
// ends. A new segment begins at each epoch's boundary; those before a safe epoch are dropped. Without a backup nothing
// is kept: there is no epoch to go back to.
//
// Not kept: standard streams (output that has left, like a terminal's), files without a name (epochs hold their
// content), what other processes do, extended attributes, which of several names of a file was which.
//
// begin() and end() on any thread; the others on one, boundary() with the guest at its gates. Data changes run side by
// side, those at a file's own position one at a time per file, changes of names alone: what a segment says in its order
// is what happened.
#pragma once

#include <sys/stat.h>

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "runtime/files/file_undo.hpp"
#include "runtime/files/undo_log.hpp"
#include "vmm/address_space.hpp"
#include "vmm/file_journal.hpp"
#include "vmm/scoped_fd.hpp"

namespace vmsrs::runtime::files {

class FileJournal : public vmm::FileJournal {
 public:
  FileJournal(std::string folder, uint64_t term) : folder_(std::move(folder)), term_(term) {}
  // Whose file mappings are marked where their files are written in another way. Before the guest's first thread.
  void use(vmm::AddressSpace& memory) { memory_ = &memory; }

  // The epoch of that number is about to be taken: what follows is after it.
  void boundary(uint64_t epoch);
  // It was not taken after all: what followed belongs to the one before.
  void not_taken();
  // Nobody goes back further than this one any more.
  void safe(uint64_t epoch);
  // Nobody goes back at all.
  void stop();

  int64_t begin(vmm::FileChange const& change, vmm::Thread* thread) override;
  void end(vmm::FileChange const& change, int64_t token, int64_t result) noexcept override;

  struct Figures {
    uint64_t records = 0, bytes = 0;
  };
  [[nodiscard]] Figures figures() const { return {records_.load(), bytes_.load()}; }

 private:
  struct File;
  int64_t keep(UndoRecord const& record, uint64_t* index = nullptr);
  int64_t keep_bytes(File const& file, uint64_t offset, uint64_t size);
  int64_t change_bytes(vmm::FileChange const& change, vmm::Thread* thread, int64_t& held);
  void mark(vmm::FileChange const& change) const noexcept;
  int64_t change_names(vmm::FileChange const& change, uint64_t& index);
  int64_t keep_removed(int directory, char const* name, std::string const& path, struct stat const& st,
                       uint64_t* index);
  [[nodiscard]] std::string at(Segment const& segment) const { return folder_ + "/" + segment.name(); }

  std::string folder_;
  uint64_t term_;
  vmm::AddressSpace* memory_ = nullptr;
  std::atomic<bool> active_{false};
  std::shared_mutex names_;               // shared: data changes; alone: names
  std::array<std::mutex, 64> positions_;  // by inode
  std::mutex segment_mutex_;              // the rest
  Segment current_;
  uint64_t base_ = 0;      // the last epoch taken
  vmm::ScopedFd segment_;  // of current_, made with its first record
  uint64_t in_segment_ = 0;
  std::vector<Segment> kept_;  // those that there are, with current_ if it is
  std::atomic<uint64_t> records_{0}, bytes_{0};
};

}  // namespace vmsrs::runtime::files
