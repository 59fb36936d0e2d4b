#include "runtime/checkpoint/stream.hpp"

#include <fmt/format.h>
#include <xxhash.h>
#include <zstd.h>

#include <cstring>

#include "vmm/guest_addr.hpp"

namespace vmsrs::checkpoint {
namespace {

constexpr char kMagic[8] = {'V', 'M', 'S', 'R', 'S', 'E', 'P', 'O'};
constexpr uint32_t kCompressed = 1;
constexpr uint64_t kSmall = 256;  // not worth compressing
constexpr uint64_t kMostSections = 1 << 20;

struct Header {
  char magic[8];
  uint32_t version, flags;
  uint64_t number, session;
  uint64_t hash;  // of what stands before it
};
struct SectionHeader {
  uint32_t kind, flags;
  uint64_t size, stored;
  uint64_t content_hash;
  uint64_t hash;
};
struct End {
  uint64_t sections, sum;
};
static_assert(sizeof(Header) == 40 && sizeof(SectionHeader) == 40 && sizeof(End) == 16);

uint64_t mix(uint64_t sum, uint64_t hash) {
  uint64_t const both[2] = {sum, hash};
  return XXH3_64bits(both, sizeof both);
}

void append(std::vector<std::byte>& to, void const* from, size_t size) {
  auto const* bytes = static_cast<std::byte const*>(from);
  to.insert(to.end(), bytes, bytes + size);
}

tl::unexpected<vmm::Error> bad(std::string why) {
  return vmm::fail(vmm::Errc::kBadCheckpoint, std::move(why));
}

}  // namespace

uint64_t hash_of(std::span<std::byte const> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

StreamWriter::StreamWriter(StreamInfo const& info, int compression) : compression_(compression) {
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = info.version;
  header.flags = info.flags;
  header.number = info.number;
  header.session = info.session;
  header.hash = XXH3_64bits(&header, offsetof(Header, hash));
  append(bytes_, &header, sizeof header);
}

void StreamWriter::section(SectionKind kind, std::span<std::byte const> bytes) {
  SectionHeader header{static_cast<uint32_t>(kind), 0, bytes.size(), bytes.size(), 0, 0};
  size_t const at = bytes_.size();
  bytes_.resize(at + sizeof header);
  bool compressed = false;
  if (compression_ > 0 && bytes.size() >= kSmall) {
    size_t const room = bytes.size() - bytes.size() / 16;  // else it is not worth it
    bytes_.resize(at + sizeof header + room);
    size_t const n = ZSTD_compress(bytes_.data() + at + sizeof header, room, bytes.data(), bytes.size(), compression_);
    compressed = ZSTD_isError(n) == 0;
    if (compressed) header.stored = n, header.flags = kCompressed;
  }
  bytes_.resize(at + sizeof header + header.stored);
  if (!compressed && !bytes.empty()) std::memcpy(bytes_.data() + at + sizeof header, bytes.data(), bytes.size());
  header.content_hash = XXH3_64bits(bytes_.data() + at + sizeof header, header.stored);
  header.hash = XXH3_64bits(&header, offsetof(SectionHeader, hash));
  std::memcpy(bytes_.data() + at, &header, sizeof header);
  if (kind == SectionKind::kEnd) return;
  sections_ += 1;
  sum_ = mix(sum_, header.hash);
}

void StreamWriter::section(SectionKind kind, std::span<std::span<std::byte const> const> parts) {
  joined_.clear();
  for (auto const part : parts) append(joined_, part.data(), part.size());
  section(kind, joined_);
}

std::vector<std::byte> StreamWriter::finish() {
  End const end{sections_, sum_};
  section(SectionKind::kEnd, std::as_bytes(std::span(&end, 1)));
  return std::move(bytes_);
}

vmm::Result<ParsedStream> parse_stream(std::span<std::byte const> bytes) {
  Header header{};
  if (bytes.size() < sizeof header) return bad("the checkpoint is torn: not even its header is whole");
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return bad("this is no checkpoint of vmsrs");
  if (XXH3_64bits(&header, offsetof(Header, hash)) != header.hash) return bad("the checkpoint's header is damaged");
  if (header.version != kStreamVersion) {
    return bad(fmt::format("the checkpoint is of version {}, this vmsrs reads {}", header.version, kStreamVersion));
  }
  ParsedStream parsed;
  parsed.info = {header.version, header.flags, header.number, header.session};
  uint64_t at = sizeof header, sum = 0;
  for (;;) {
    SectionHeader section{};
    if (bytes.size() - at < sizeof section) return bad(fmt::format("the checkpoint is torn at byte {}", at));
    std::memcpy(&section, bytes.data() + at, sizeof section);
    if (XXH3_64bits(&section, offsetof(SectionHeader, hash)) != section.hash) {
      return bad(fmt::format("the checkpoint is damaged at byte {}", at));
    }
    uint64_t const from = at + sizeof section;
    if (section.size > kMaxSection || section.stored > section.size) {
      return bad(fmt::format("the checkpoint makes no sense at byte {}", at));
    }
    if (bytes.size() - from < section.stored)
      return bad(fmt::format("the checkpoint is torn at byte {}", bytes.size()));
    auto const stored = bytes.subspan(from, section.stored);
    if (hash_of(stored) != section.content_hash)
      return bad(fmt::format("the checkpoint is damaged behind byte {}", from));
    at = from + section.stored;
    bool const compressed = (section.flags & kCompressed) != 0;
    if (section.kind == static_cast<uint32_t>(SectionKind::kEnd)) {
      End end{};
      if (compressed || stored.size() != sizeof end) return bad("the checkpoint's end makes no sense");
      std::memcpy(&end, stored.data(), sizeof end);
      if (end.sections != parsed.sections.size() || end.sum != sum) {
        return bad("a part of the checkpoint is missing, or not in its place");
      }
      parsed.bytes = at;
      return parsed;
    }
    if (parsed.sections.size() >= kMostSections || section.kind > static_cast<uint32_t>(SectionKind::kZero)) {
      return bad(fmt::format("the checkpoint makes no sense at byte {}", at));
    }
    sum = mix(sum, section.hash);
    parsed.sections.push_back({static_cast<SectionKind>(section.kind), stored, section.size, compressed});
  }
}

vmm::Result<std::span<std::byte const>> content_of(Section const& section, std::vector<std::byte>& buffer) {
  if (!section.compressed) {
    if (section.stored.size() != section.size) return bad("a part of the checkpoint has another size than it says");
    return section.stored;
  }
  buffer.resize(section.size);
  size_t const n = ZSTD_decompress(buffer.data(), buffer.size(), section.stored.data(), section.stored.size());
  if (ZSTD_isError(n) != 0)
    return bad(fmt::format("a part of the checkpoint cannot be decompressed: {}", ZSTD_getErrorName(n)));
  if (n != section.size) return bad("a part of the checkpoint has another size than it says");
  return std::span<std::byte const>(buffer);
}

vmm::Result<PageRun> parse_pages(SectionKind kind, std::span<std::byte const> content, uint64_t pages) {
  uint64_t count = 0;
  if (content.size() < sizeof count) return bad("pages without their count");
  std::memcpy(&count, content.data(), sizeof count);
  content = content.subspan(sizeof count);
  uint64_t const each = sizeof(uint64_t) + (kind == SectionKind::kPages ? vmm::kPageSize : 0);
  if (count > kMaxSection / each || content.size() != count * each)
    return bad("more or fewer pages than their count says");
  PageRun run;
  run.numbers.resize(count);
  if (count != 0) std::memcpy(run.numbers.data(), content.data(), count * sizeof(uint64_t));
  for (uint64_t const number : run.numbers) {
    if (number >= pages) return bad("a page that the guest's memory does not have");
  }
  run.data = content.subspan(count * sizeof(uint64_t));
  return run;
}

}  // namespace vmsrs::checkpoint
