// What it takes to take back changes to files: records in the order in which the changes were made, each complete
// before its change begins. One file is a *segment*: what was done from one epoch's boundary on.
//
// A record is a fixed header, two names and bytes, with an XXH3 hash over all of it but the hash. A record that is torn
// or damaged ends the segment: its change was never made. Numbers are the machine's own; the log never leaves it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "vmm/error.hpp"

namespace vmsrs::runtime::files {

struct FileStatus {
  uint64_t size = 0;
  uint32_t mode = 0;  // st_mode, with the kind of file
  uint32_t user = 0, group = 0;
  uint32_t unused = 0;
  int64_t accessed_ns = 0, modified_ns = 0;
};

struct UndoRecord {
  enum class Kind : uint32_t {
    kBytes = 1,  // `data` stood at `offset` of `path`, which had `status`
    kStatus,     // `path` had `status`
    kCreated,    // nothing had the name `path`
    kRemoved,    // `path` had `status` and `data` (a file's bytes, a link's text)
    kRenamed,    // `other` was `path`
    kExchanged,  // `other` and `path` had each other's names
    kNotMade,    // the change of the record before number `offset` failed
  };
  Kind kind = Kind::kBytes;
  FileStatus status;
  uint64_t offset = 0;
  std::string_view path, other;
  std::span<std::byte const> data;
};

// Puts a record at the end of a segment opened with O_APPEND; 0 or errno. On an error (a full disk) what came of it is
// cut off again.
int append(int fd, UndoRecord const& record);

// Calls `f` for each record from the last one back to the first, without those whose change failed. A missing segment
// is an empty one.
vmm::Result<void> for_each_backwards(std::string const& segment, std::function<void(UndoRecord const&)> const& f);

}  // namespace vmsrs::runtime::files
