// Parsing of an x86-64 ELF program: a pure function over the file's first bytes, so that it can be fuzzed.
// Layout: System V gABI, chapters 4 and 5; psABI for x86-64.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/error.hpp"

namespace vmm {

struct ElfSegment {
  uint64_t address = 0, file_offset = 0, file_size = 0, memory_size = 0;
  int prot = 0;  // PROT_*
};

struct ElfImage {
  bool position_independent = false;
  uint64_t entry = 0;
  uint64_t program_headers = 0;  // address in memory, before the load bias; 0: not loaded
  uint16_t program_header_count = 0;
  uint64_t low = 0, high = 0;  // page-aligned span of all segments, before the load bias
  std::vector<ElfSegment> segments;
  std::string interpreter;  // empty: static
};

// `head`: the start of the file, at least the ELF header and its program headers and the interpreter's name (64 KiB is
// plenty). `name` is for messages.
Result<ElfImage> parse_elf(std::span<std::byte const> head, uint64_t file_size, std::string const& name);

// How many bytes lie before the first writable segment of a program or library, as they are in memory; 0: not one, or
// its program headers are not in `head`.
uint64_t elf_text_bytes(std::span<std::byte const> head) noexcept;

}  // namespace vmm
