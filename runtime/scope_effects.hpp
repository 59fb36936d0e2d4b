// What a scope did outside memory by its system calls: fds that it opened and closed, files that it wrote, and the rest
// of the world. An abort takes back what can be taken back; everything else goes into the report by name.
//
// Files: with SRS_FILE_UNDO (srs_file) each write of a scope keeps the bytes that it overwrites and those that it
// writes. An abort puts the former back, newest first, where the file still holds the latter; if it does not, others
// have written there since, and the range is reported instead.
//
// One per thread, used by that thread alone (or by the poller that makes its call).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/fault_report.hpp"
#include "vmm/fd_table.hpp"
#include "vmm/syscall.hpp"
#include "vmm/thread.hpp"

namespace vmsrs::runtime {

inline constexpr uint64_t kMaxFileBytes = 16 << 20;  // kept for the undo, per thread
inline constexpr size_t kMaxEffects = 256;           // told one by one, per thread; others are counted

// SRS_HC_FILE: 0, or -EBADF, -EINVAL (not a regular file), or the errno of opening it for reading and writing.
int64_t set_file_mode(vmm::Thread& thread, int fd, uint64_t mode);

class ScopeEffects {
 public:
  // Around a call that is really made inside a scope; `number`: of the scope's first owner.
  // `before` says whether it keeps something that must end with the commit (a closed file's connection).
  bool before(vmm::Thread& thread, vmm::SyscallArgs const& args, uint64_t number);
  void after(vmm::Thread& thread, vmm::SyscallArgs const& args, int64_t result, uint64_t number);
  // The scope that began with this number is aborted, and all that began later.
  void undo(vmm::Thread& thread, uint64_t from_number, FaultReport& report);
  // Closed files are really closed: their scope has committed, or is about to wait for somebody.
  void let_closed_go();
  [[nodiscard]] bool keeps_closed() const { return !closed_.empty(); }
  // No scope is open.
  void forget();
  [[nodiscard]] bool empty() const { return opened_.empty() && closed_.empty() && done_.empty(); }

  struct Opened {
    int fd = -1;
    uint64_t number = 0;
  };
  // What a checkpoint keeps of it (recovery_state.hpp).
  struct Saved {
    struct Told {
      Effect effect;
      uint64_t number = 0;
      std::string why_not;
    };
    std::vector<Opened> opened;
    std::vector<Told> told;
    uint64_t more = 0;
  };
  // Whether all of it can be saved: not a closed file that may have to be opened again, nor bytes of a file or an
  // eventfd that may have to be put back.
  [[nodiscard]] bool can_be_saved() const;
  [[nodiscard]] Saved save() const;
  void load(Saved const& saved);

 private:
  struct Closed {
    int fd;
    uint64_t number;
    vmm::FileRef file;
    bool cloexec;
  };
  struct Done {
    Effect effect;
    uint64_t number = 0;
    vmm::FileRef file;  // null: nothing to put back
    std::vector<std::byte> old_bytes, new_bytes;
    uint64_t old_size = 0, new_size = 0;
    int64_t old_position = -1, new_position = -1;  // of the file's own; -1: the call did not move it
    uint64_t event = 0;                            // not 0: what was read from an eventfd
    std::string why_not;
  };

  void begin_write(vmm::Thread& thread, vmm::SyscallArgs const& args);
  void add(Done done);
  static bool put_back(vmm::Thread& thread, Done& done);
  static bool give_back(Done const& done);
  [[nodiscard]] bool opened_here(int fd) const;

  std::vector<Opened> opened_;
  std::vector<Closed> closed_;
  std::vector<Done> done_;
  Done writing_;  // between before() and after()
  bool is_writing_ = false;
  uint64_t began_ns_ = 0;  // CLOCK_REALTIME before a call that may create a file
  uint64_t bytes_ = 0, more_ = 0;
};

}  // namespace vmsrs::runtime
