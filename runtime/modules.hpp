// The ELF modules of a guest, found from its mappings and read from its own memory: what was mapped counts, not what
// lies on the disk by now. Every figure read there is checked; a damaged header makes a module without that part.
// Layout: System V gABI chapters 4 and 5; Linux Standard Base 10.6 for .eh_frame_hdr.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "runtime/guest_view.hpp"

namespace vmsrs::runtime {

struct Module {
  std::string file;
  uint64_t start = 0, end = 0;  // span of its mappings
  uint64_t bias = 0;            // run-time address = address as linked + bias
  uint64_t eh_frame_hdr = 0;    // run-time address; 0: none
  uint64_t eh_frame_hdr_size = 0;
  std::string build_id;  // lower-case hex; empty: none
};

// Used by one thread at a time, like the view.
class Modules {
 public:
  explicit Modules(GuestView const& view) : view_(view) {}
  // The module around an address; nullptr: none, or its ELF header cannot be read.
  [[nodiscard]] Module const* find(uint64_t addr);

 private:
  GuestView const& view_;
  std::map<uint64_t, Module> by_header_;  // by address of the ELF header
};

}  // namespace vmsrs::runtime
