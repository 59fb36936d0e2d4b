// links: vmsrs_checkpoint
// The bytes of an epoch: what is written is read, and nothing else is.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "runtime/checkpoint/image.hpp"
#include "runtime/checkpoint/image_content.hpp"
#include "runtime/checkpoint/stream.hpp"
#include "vmm/guest_addr.hpp"

namespace vmsrs::checkpoint {
namespace {

using Bytes = std::vector<std::byte>;

Bytes filled(size_t size, int value) {
  return Bytes(size, static_cast<std::byte>(value));
}

Bytes pages_section(std::vector<uint64_t> const& numbers, int value) {
  uint64_t const count = numbers.size();
  Bytes bytes(sizeof count + count * sizeof(uint64_t));
  std::memcpy(bytes.data(), &count, sizeof count);
  std::memcpy(bytes.data() + sizeof count, numbers.data(), count * sizeof(uint64_t));
  if (value >= 0) bytes.resize(bytes.size() + count * vmm::kPageSize, static_cast<std::byte>(value));
  return bytes;
}

Bytes state_of(uint64_t window) {
  vmm::ProcessState state;
  state.window = window;
  state.exe_path = "/bin/program";
  vmm::ThreadImage thread;
  thread.tid = 1000;
  thread.xsave.resize(vmm::kXsaveBytes);
  state.threads.push_back(thread);
  return vmm::encode(state);
}

Bytes epoch(uint64_t number, std::vector<uint64_t> const& pages, int value, std::vector<uint64_t> const& zeros = {},
            int compression = 1, uint64_t session = 5) {
  StreamWriter writer({kStreamVersion, number == 1 ? kFlagFull : 0, number, session}, compression);
  if (!pages.empty()) writer.section(SectionKind::kPages, pages_section(pages, value));
  if (!zeros.empty()) writer.section(SectionKind::kZero, pages_section(zeros, -1));
  writer.section(SectionKind::kState, state_of(2ULL << 30));
  return writer.finish();
}

std::byte byte_of(Image const& image, uint64_t page, uint64_t at = 0) {
  return image.content().memory[page * vmm::kPageSize + at];
}

TEST(CheckpointStream, WhatIsWrittenIsRead) {
  for (int const compression : {0, 1}) {
    StreamWriter writer({kStreamVersion, kFlagFull, 7, 9}, compression);
    writer.section(SectionKind::kState, filled(10'000, 3));
    writer.section(SectionKind::kPages, pages_section({1, 5}, 4));
    Bytes const bytes = writer.finish();
    auto const parsed = parse_stream(bytes);
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->bytes, bytes.size());
    EXPECT_EQ(parsed->info.number, 7U);
    ASSERT_EQ(parsed->sections.size(), 2U);
    Bytes buffer;
    auto content = content_of(parsed->sections[0], buffer);
    ASSERT_TRUE(content);
    EXPECT_TRUE(std::ranges::equal(*content, filled(10'000, 3)));
    content = content_of(parsed->sections[1], buffer);
    auto const run = parse_pages(SectionKind::kPages, *content, 6);
    ASSERT_TRUE(run) << run.error().message;
    EXPECT_EQ(run->numbers, (std::vector<uint64_t>{1, 5}));
    EXPECT_FALSE(parse_pages(SectionKind::kPages, *content, 5)) << "page 5 is not there";
  }
}

TEST(CheckpointStream, EveryTornOneIsRefused) {
  Bytes const good = epoch(1, {3}, 1, {}, 0);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(parse_stream(std::span(good).first(size))) << size;
  }
}

TEST(CheckpointStream, EveryDamagedByteIsNoticed) {
  Bytes const good = epoch(1, {3}, 1, {4}, 1);
  for (size_t at = 0; at < good.size(); ++at) {
    Bytes bad = good;
    bad[at] ^= std::byte{1};
    EXPECT_FALSE(parse_stream(bad)) << at;
  }
}

TEST(CheckpointStream, MissingSectionIsNoticed) {
  Bytes const good = epoch(1, {3}, 1, {}, 0), other = epoch(1, {}, 1, {}, 0);
  auto const parsed = parse_stream(good);
  ASSERT_TRUE(parsed);
  // The header and the state's section of one, the end of the other.
  size_t const pages = 40 + parsed->sections[0].stored.size();
  Bytes joined(good.begin(), good.begin() + 40);
  joined.insert(joined.end(), good.begin() + 40 + static_cast<std::ptrdiff_t>(pages), good.end());
  auto const refused = parse_stream(joined);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("missing"), std::string::npos) << refused.error().message;
}

TEST(CheckpointImage, EpochsAddUp) {
  Image image;
  ASSERT_TRUE(image.apply(epoch(1, {3, 4, 5}, 1)));
  ASSERT_TRUE(image.apply(epoch(2, {4}, 2, {5})));
  EXPECT_EQ(image.number(), 2U);
  EXPECT_EQ(byte_of(image, 3), std::byte{1});
  EXPECT_EQ(byte_of(image, 4, 4095), std::byte{2});
  EXPECT_EQ(byte_of(image, 5), std::byte{0});
  EXPECT_EQ(byte_of(image, 6), std::byte{0});
  EXPECT_EQ(image.program(), "/bin/program");
}

TEST(CheckpointImage, RefusesWhatDoesNotFollowAndStaysAsItWas) {
  Image image;
  EXPECT_FALSE(image.apply(epoch(2, {4}, 2))) << "no full one before it";
  ASSERT_TRUE(image.apply(epoch(1, {3}, 1)));
  EXPECT_FALSE(image.apply(epoch(3, {3}, 3))) << "one is missing";
  EXPECT_FALSE(image.apply(epoch(2, {3}, 3, {}, 1, 6))) << "of another series";
  Bytes damaged = epoch(2, {3}, 3);
  damaged[damaged.size() / 2] ^= std::byte{1};
  EXPECT_FALSE(image.apply(damaged));
  EXPECT_FALSE(image.apply(epoch(2, {uint64_t{1} << 40}, 3))) << "outside the memory";
  EXPECT_EQ(image.number(), 1U);
  EXPECT_EQ(byte_of(image, 3), std::byte{1});
  EXPECT_TRUE(image.apply(epoch(2, {3}, 3)));
}

TEST(CheckpointImage, WrongStateIsRefused) {
  Bytes const good = state_of(2ULL << 30);
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    Bytes bad = good;
    size_t const at = random() % bad.size();
    bad[at] = static_cast<std::byte>(random());
    if (i % 2 == 0) bad.resize(random() % bad.size());
    (void)vmm::decode_process_state(bad);  // whatever it says, it neither crashes nor takes memory without bound
  }
  EXPECT_FALSE(vmm::decode_process_state(std::span(good).first(good.size() - 1)));
  EXPECT_TRUE(vmm::decode_process_state(good));
}

}  // namespace
}  // namespace vmsrs::checkpoint
