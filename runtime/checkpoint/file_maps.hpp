// Files that the guest maps shared and may write: pages of its memory that do not lie in the memory file. They travel
// in epochs like all others, at the numbers of their addresses, and a restore writes them into the files
// (AddressSpace::restore_layout).
//
// A mapping's pages are dirty as a whole when it is seen for the first time, and once more when it is gone: what lies
// at its place then is other memory. Between, the guest's stores are in KVM's log as for all memory.
//
// With the guest at its gates; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/address_space.hpp"

namespace vmsrs::checkpoint {

class FileMaps {
 public:
  // What is mapped now; sets bits in `dirty`, one per page of the memory file. `all`: of each mapping.
  void look(vmm::AddressSpace const& memory, bool all, std::span<uint64_t> dirty);
  [[nodiscard]] bool covers(uint64_t page) const;
  // False: the file does not reach so far.
  [[nodiscard]] bool copy(vmm::AddressSpace const& memory, uint64_t page, std::byte* to) const;

 private:
  struct Range {
    uint64_t first = 0, end = 0;  // pages of the memory file
    vmm::GuestAddr start;         // of `first`
    vmm::FileId file;
    uint64_t offset = 0;
    bool operator==(Range const&) const = default;
  };
  std::vector<Range> ranges_;  // by address
};

}  // namespace vmsrs::checkpoint
