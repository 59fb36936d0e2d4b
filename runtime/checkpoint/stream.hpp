// The bytes of one epoch (docs/checkpoint.md):
//
//   header    "VMSRSEPO", version, flags, epoch number, session, hash of these
//   sections  kind, flags, size, stored size, hash of the stored bytes, hash of these; then the stored bytes
//   the last section is kEnd: how many sections there were, and the hash over all their hashes
//
// All numbers little-endian. A hash is XXH3 with 64 bits: it finds damage, it keeps nobody out. Stored bytes are
// compressed with zstd where that makes them shorter.
//
// Parser: believes nothing. It checks the whole epoch before it hands out anything; sizes are bounded before memory is
// taken for them (fuzz/epoch_stream_fuzz.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/error.hpp"

namespace vmsrs::checkpoint {

inline constexpr uint32_t kStreamVersion = 1;
inline constexpr uint64_t kMaxSection = 64 << 20;  // bytes of one section, before compression

enum class SectionKind : uint32_t {
  kEnd = 0,
  kState = 1,     // vmm::ProcessState
  kRecovery = 2,  // runtime/checkpoint/recovery_state.hpp
  kPages = 3,     // count n, n page numbers of the memory file, n pages
  kZero = 4,      // count n, n page numbers: these hold zeros
};

inline constexpr uint32_t kFlagFull = 1;

struct StreamInfo {
  uint32_t version = kStreamVersion;
  uint32_t flags = 0;
  uint64_t number = 0;
  uint64_t session = 0;  // of the checkpointer that made it: epochs of two do not add up
};

class StreamWriter {
 public:
  StreamWriter(StreamInfo const& info, int compression);
  void section(SectionKind kind, std::span<std::byte const> bytes);
  // Several parts as one section.
  void section(SectionKind kind, std::span<std::span<std::byte const> const> parts);
  std::vector<std::byte> finish();

 private:
  std::vector<std::byte> bytes_;
  std::vector<std::byte> joined_;
  int compression_;
  uint64_t sections_ = 0, sum_ = 0;
};

struct Section {
  SectionKind kind = SectionKind::kEnd;
  std::span<std::byte const> stored;  // into the stream
  uint64_t size = 0;                  // of its content
  bool compressed = false;
};

struct ParsedStream {
  StreamInfo info;
  std::vector<Section> sections;  // without kEnd
  uint64_t bytes = 0;             // of the epoch: another may follow
};

// Errc::kBadCheckpoint, with the reason: torn, damaged, of another version, no such stream.
vmm::Result<ParsedStream> parse_stream(std::span<std::byte const> bytes);
// A section's content, in `buffer` if it had to be decompressed.
vmm::Result<std::span<std::byte const>> content_of(Section const& section, std::vector<std::byte>& buffer);

// The page numbers and pages of a kPages or kZero section; checked against `pages`, the size of the memory file.
struct PageRun {
  std::vector<uint64_t> numbers;
  std::span<std::byte const> data;  // numbers.size() pages, none for kZero
};
vmm::Result<PageRun> parse_pages(SectionKind kind, std::span<std::byte const> content, uint64_t pages);

[[nodiscard]] uint64_t hash_of(std::span<std::byte const> bytes);

}  // namespace vmsrs::checkpoint
