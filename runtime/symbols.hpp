// Names of functions: from .symtab (else .dynsym) of the ELF files on the disk, or of the separate debug file with the
// same build-id. A file is used only while its build-id is the one that the guest has mapped; a file that is gone,
// changed or damaged costs the names and nothing else. Each file is read once, with pread, never mapped: it may be
// truncated at any time. Layout: System V gABI chapter 4.
//
// Thread-safe. Tables are kept for the life of this object.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "runtime/fault_report.hpp"

namespace vmsrs::runtime {

class Symbols {
 public:
  // `debug_root`: where .build-id/xx/yyyy.debug lies.
  explicit Symbols(std::string debug_root = "/usr/lib/debug");
  ~Symbols();
  Symbols(Symbols const&) = delete;
  Symbols& operator=(Symbols const&) = delete;

  struct Name {
    std::string function;  // demangled
    uint64_t offset = 0;   // from its first byte
  };
  // `address` as linked. An empty build_id is not compared. Nothing: no symbol there.
  [[nodiscard]] std::optional<Name> find(std::string const& file, uint64_t address, std::string const& build_id = {});

  // Bytes from the end of the last named function before `address` to the next one behind it; 0: a function is there,
  // or nothing is known.
  [[nodiscard]] uint64_t unnamed_stretch(std::string const& file, uint64_t address, std::string const& build_id = {});

  // Fills function and function_offset. The name of a return address is that of its call.
  void name(std::span<Frame> frames);

 private:
  class Table;
  std::shared_ptr<Table const> table_of(std::string const& file, std::string const& build_id);

  std::string debug_root_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Table const>> tables_;  // by file and build-id
};

}  // namespace vmsrs::runtime
