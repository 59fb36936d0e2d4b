// parse_elf on any bytes: an error, or segments that lie within the file and below the top of user space. And
// elf_text_bytes: nothing, or whole pages below that top.
#include <cstdlib>

#include "vmm/elf_image.hpp"

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
  uint64_t const text = vmm::elf_text_bytes(std::as_bytes(std::span(data, size)));
  if (text % 4096 != 0 || text >= 1ULL << 47) std::abort();
  auto const parsed = vmm::parse_elf(std::as_bytes(std::span(data, size)), size, "fuzzed");
  if (!parsed) return 0;
  for (auto const& s : parsed->segments) {
    bool const in_file = s.file_offset <= size && s.file_size <= size - s.file_offset && s.file_size <= s.memory_size;
    bool const in_reach = s.address < 1ULL << 47 && s.memory_size < (1ULL << 47) - s.address;
    bool const in_span = parsed->low <= s.address && s.address + s.memory_size <= parsed->high;
    if (!in_file || !in_reach || !in_span) std::abort();
  }
  return 0;
}
