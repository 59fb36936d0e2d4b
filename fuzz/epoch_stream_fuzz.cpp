// The parser of an epoch's stream and of the state in it. The hashes would keep the fuzzer out of everything behind
// them, so it is also given the parts alone.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/checkpoint/stream.hpp"
#include "runtime/recovery_state.hpp"
#include "vmm/checkpoint/process_state.hpp"

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
  using namespace vmsrs::checkpoint;
  if (size == 0) return 0;
  std::span<std::byte const> const bytes(reinterpret_cast<std::byte const*>(data) + 1, size - 1);
  std::vector<std::byte> buffer;
  switch (data[0] % 6) {
    case 0:
      if (auto parsed = parse_stream(bytes)) {
        for (Section const& section : parsed->sections) (void)content_of(section, buffer);
      }
      break;
    case 1:
      (void)vmm::decode_process_state(bytes);
      break;
    case 2:
      (void)vmsrs::runtime::decode_recovery_state(bytes);
      break;
    case 3:
      (void)parse_pages(SectionKind::kPages, bytes, 1 << 20);
      break;
    case 4:
      (void)parse_pages(SectionKind::kZero, bytes, 1 << 20);
      break;
    default: {  // a stream whose hashes are right
      StreamWriter writer({}, data[0] & 1);
      writer.section(SectionKind::kState, bytes);
      std::vector<std::byte> const stream = writer.finish();
      auto const parsed = parse_stream(stream);
      if (!parsed || !content_of(parsed->sections[0], buffer)) __builtin_trap();
      break;
    }
  }
  return 0;
}
